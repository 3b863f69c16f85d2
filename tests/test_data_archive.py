from __future__ import annotations

import io
import pickle
import stat
import struct
import tarfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelwise.data import members, scan, unpack
from labelwise.data.cache import cache_folder
from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import class_folders, encoded, picture

PNG = encoded(picture(1))
GOOD = {"photos/cat/1.png": PNG, "photos/dog/2.png": encoded(picture(2))}
KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]
TARS = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def packed(path, members):
    """An archive, by the standard library, of the kind that its name says."""
    if path.suffix == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            warnings.simplefilter("ignore")  # duplicate names are the subject of a test
            for name, data in members.items() if isinstance(members, dict) else members:
                file.writestr(name, data)
        return path
    with tarfile.open(path, TARS[path.name.partition(".")[2]]) as file:
        for name, data in members.items() if isinstance(members, dict) else members:
            file.addfile(tar_header(name, len(data)), io.BytesIO(data))
    return path


def tar_header(name, size=0, **fields):
    header = tarfile.TarInfo(name)
    header.size = size
    for field, value in fields.items():
        setattr(header, field, value)
    return header


def tar_of(path, *headers, good=True):
    """A tar of headers with their data, and the good images behind them."""
    with tarfile.open(path, "w") as file:
        for header, data in headers:
            file.addfile(header, io.BytesIO(data))
        for name, data in GOOD.items() if good else ():
            file.addfile(tar_header(name, len(data)), io.BytesIO(data))
    return path


def reasons(data):
    """Path -> reason of what is set aside."""
    rows = data.table[data.table["decision"] == "set aside"]
    return dict(zip(rows["path"], rows["reason"], strict=True))


def used(data):
    return data.table["path"][data.usable].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_the_folder_that_it_would_be(tmp_path, kind):
    folder = class_folders(tmp_path / "photos" / "train", {"a": 2, "b": 2, "unlabeled": 1})
    (folder / "a" / "notes.txt").write_text("x")
    (folder / "a" / ".hidden").write_text("x")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {str(file.relative_to(tmp_path)): file.read_bytes() for file in files}
    expected, data = load(tmp_path / "photos"), load(packed(tmp_path / f"x.{kind}", names))
    assert data.fingerprint == expected.fingerprint
    assert data.table.equals(expected.table)
    assert data.class_names == expected.class_names
    for row in data.usable:
        np.testing.assert_array_equal(data.pixels.read(row), expected.pixels.read(row))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["photos/cat/1", "photos/dog/1"], ["cat/1", "dog/1"]),
        (["./photos/cat/1", "./photos/dog/1"], ["cat/1", "dog/1"]),
        (["photos/cat/1", "__MACOSX/photos/._1"], ["__MACOSX", "cat/1"]),
        (["cat/1", "dog/1"], ["cat/1", "dog/1"]),
        (["train/cat/1", "train/dog/1"], ["train/cat/1", "train/dog/1"]),
        (["unlabeled/1", "unlabeled/2"], ["unlabeled/1", "unlabeled/2"]),
        (["photos/train/1", "photos/train/2"], ["train/1", "train/2"]),
    ],
)
def test_one_folder_around_everything_is_no_class_unless_it_is_a_split(tmp_path, names, expected):
    data = load(packed(tmp_path / "x.zip", dict.fromkeys(names, PNG)))
    assert data.table["path"].tolist() == expected


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_pickle_is_small_and_reads_the_same_from_many_threads(tmp_path, kind):
    images = {f"c{seed % 2}/{seed:02}.png": encoded(picture(seed)) for seed in range(20)}
    data = load(packed(tmp_path / f"x.{kind}", images))
    text = pickle.dumps(data.pixels)
    assert len(text) < 4000
    again = pickle.loads(text)
    rows = {path: row for row, path in enumerate(data.table["path"])}
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda seed: again.read(rows[f"c{seed % 2}/{seed:02}.png"]), range(20))
        )
    for seed, image in enumerate(found):
        np.testing.assert_array_equal(image, picture(seed))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_unchanged_archive_is_not_decoded_again(tmp_path, kind, monkeypatch):
    path = packed(tmp_path / f"x.{kind}", GOOD)
    first = load(path)
    monkeypatch.setattr(scan, "decode", None)
    assert load(path).fingerprint == first.fingerprint


def test_an_archive_that_changed_after_loading_is_an_error_that_says_so(tmp_path):
    data = load(packed(tmp_path / "x.zip", GOOD))
    packed(tmp_path / "x.zip", {**GOOD, "more": b"x"})
    with pytest.raises(DataError, match=r"its archive has changed\. Load the data again"):
        data.pixels.read(0)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_set_aside_and_nothing_is_written_outside_of_the_cache(
    tmp_path, kind, monkeypatch
):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    bad = ["/etc/evil.png", "../evil.png", "cat/../../evil.png", "C:/evil.png", "..\\evil.png"]
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = packed(folder / f"x.{kind}", {**dict.fromkeys(bad, PNG), **GOOD})
    before = {file for file in tmp_path.rglob("*") if "cache" not in file.parts}
    data = load(path)
    assert used(data) == ["cat/1.png", "dog/2.png"]
    shown = {name.replace("\\", "/") if kind == "zip" else name for name in bad}
    assert set(reasons(data)) == shown
    assert {file for file in tmp_path.rglob("*") if "cache" not in file.parts} == before
    assert not Path("/etc/evil.png").exists()
    cached = {f.suffix for f in (tmp_path / "cache").rglob("*") if f.is_file()} - {"", ".tar"}
    assert {suffix.split("-")[0] for suffix in cached} == {".sqlite"}


def test_links_devices_and_pipes_in_a_tar_are_set_aside(tmp_path):
    kinds = {
        "sym": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.BLKTYPE,
        "odd": b"Q",
    }
    headers = [
        (tar_header(f"photos/cat/{name}", type=kind, linkname="/etc/passwd"), b"")
        for name, kind in kinds.items()
    ]
    data = load(tar_of(tmp_path / "x.tar", *headers))
    said = reasons(data)
    assert said.keys() == {f"cat/{name}" for name in kinds}
    assert "link" in said["cat/sym"]
    assert "link" in said["cat/hard"]
    assert "not a regular file" in said["cat/fifo"]
    assert "not a regular file" in said["cat/device"]
    assert "unknown kind" in said["cat/odd"]


def test_what_a_zip_may_hold_besides_images_is_set_aside(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, kind in (("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO)):
            info = zipfile.ZipInfo(f"photos/{name}")
            info.create_system, info.external_attr = 3, (kind | 0o644) << 16
            file.writestr(info, "/etc/passwd")
        file.writestr("photos/bz", PNG, zipfile.ZIP_BZIP2)
        file.writestr("photos/lzma", PNG, zipfile.ZIP_LZMA)
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as nested:
            nested.writestr("x", PNG)
        file.writestr("photos/nested", inner.getvalue())
        file.writestr("photos/secret", PNG)
        for name, data in GOOD.items():
            file.writestr(name, data)
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(b"photos/secret") - 46 + 8] |= 1  # the flag of an encrypted member
    path.write_bytes(raw)
    data = load(path)
    assert used(data) == ["cat/1.png", "dog/2.png"]
    said = reasons(data)
    assert "link" in said["link"]
    assert "not a regular file" in said["pipe"]
    assert "unsupported compression: bzip2" in said["bz"]
    assert "unsupported compression: LZMA" in said["lzma"]
    assert "an archive inside the archive" in said["nested"]
    assert said["secret"] == "encrypted"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_a_name_given_twice_the_last_counts_as_when_extracting(tmp_path, kind):
    twice = [("a/1.png", PNG), ("a/1.png", encoded(picture(9))), *GOOD.items()]
    data = load(packed(tmp_path / f"x.{kind}", twice))
    assert reasons(data) == {"a/1.png (1 of 2)": "named twice in the archive: the last one counts"}
    row = data.table["path"].tolist().index("a/1.png")
    np.testing.assert_array_equal(data.pixels.read(row), picture(9))


def test_names_that_are_no_unicode_are_shown_escaped(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as file:
        for name in ("caf\xe9/1.png", "b/2.png"):
            file.addfile(tar_header(name, len(PNG)), io.BytesIO(PNG))
    assert "caf\\udce9" in load(path).class_names


def test_a_zip_from_an_old_pc_has_its_letters(tmp_path):
    path = packed(tmp_path / "x.zip", {"caf?/1.png": PNG, "b\\2.png": PNG})
    path.write_bytes(path.read_bytes().replace(b"caf?", b"caf\x82"))
    assert load(path).class_names == ("b", "café")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_whole_in_every_format(tmp_path, form):
    name = "photos/" + "/".join(["cat"] + ["folder" * 5] * 5) + "/1.png"
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as file:
        for member, data in {name: PNG, **GOOD}.items():
            file.addfile(tar_header(member, len(data)), io.BytesIO(data))
    assert name.removeprefix("photos/") in used(load(tmp_path / "x.tar"))


def pax(records, kind=b"x"):
    """A pax header with the given bytes as its records."""
    return tar_header("pax", len(records), type=kind), records


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (b"29 size=99999999999999999999\n", "size that is none"),
        (b"12 size=-512\n", "broken"),
        (b"13 size=-512\n", "size that is none"),
        (b"99999999 path=x\n", "broken"),
        (b"0 path=x\n", "broken"),
        (b"-5 path=x\n", "broken"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (bytes(2**20 + 1), "extended header has 1048577 bytes"),
    ],
)
def test_a_hostile_pax_header_costs_its_own_member_only(tmp_path, records, reason):
    victim = (tar_header("photos/cat/victim", len(PNG)), PNG)
    data = load(tar_of(tmp_path / "x.tar", pax(records), victim))
    assert used(data) == ["cat/1.png", "dog/2.png"]
    assert reason in reasons(data)["cat/victim"]


def test_the_charset_of_a_pax_header_changes_nothing(tmp_path):
    charset = b"21 hdrcharset=BINARY\n23 path=photos/\xff/1.png\n"
    data = load(tar_of(tmp_path / "x.tar", pax(charset), (tar_header("x", len(PNG)), PNG)))
    assert "\\udcff/1.png" in used(data)


def test_a_pax_header_may_give_the_size(tmp_path):
    block = changed(tar_header("photos/cat/x.png", len(PNG)), 124, b"00000000000\0")
    record = f"{len(str(len(PNG))) + 9} size={len(PNG)}\n".encode()
    raw = pax(record)[0].tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + block
    raw += PNG.ljust(-(-len(PNG) // 512) * 512, b"\0")
    path = tar_of(tmp_path / "good.tar")
    (tmp_path / "x.tar").write_bytes(raw + path.read_bytes())
    assert used(load(tmp_path / "x.tar")) == ["cat/1.png", "cat/x.png", "dog/2.png"]


def changed(header, at, value):
    """A block of a tar header with some bytes replaced, and the checksum that fits."""
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_gnu_sparse_file_is_set_aside_and_what_follows_is_read(tmp_path):
    header = tar_header("photos/cat/sparse", 512, type=tarfile.GNUTYPE_SPARSE)
    more = bytes(504) + b"\1" + bytes(7)  # a block of the map, and another one behind it
    raw = changed(header, 482, b"\1") + more + bytes(512) + bytes(512)
    (tmp_path / "x.tar").write_bytes(raw + tar_of(tmp_path / "good.tar").read_bytes())
    data = load(tmp_path / "x.tar")
    assert used(data) == ["cat/1.png", "dog/2.png"]
    assert "sparse" in reasons(data)["cat/sparse"]


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"7" * 11 + b"\0"])
def test_impossible_sizes_in_a_tar_end_and_cost_no_other_member(tmp_path, size):
    block = changed(tar_header("photos/cat/liar"), 124, size)
    (tmp_path / "x.tar").write_bytes(block + tar_of(tmp_path / "good.tar").read_bytes())
    data = load(tmp_path / "x.tar")
    assert used(data) == ["cat/1.png", "dog/2.png"]
    assert len(reasons(data)) == 1


def test_a_damaged_header_in_a_tar_costs_one_member(tmp_path):
    path = tar_of(tmp_path / "x.tar", (tar_header("photos/cat/0.png", len(PNG)), PNG))
    raw = bytearray(path.read_bytes())
    raw[3] ^= 0x55
    path.write_bytes(raw)
    data = load(path)
    assert used(data) == ["cat/1.png", "dog/2.png"]
    assert reasons(data) == {"(header at byte 0)": "damaged: the checksum of a header does not fit"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_cut_in_the_middle_gives_what_is_whole(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (60, 100, 100, 3), dtype=np.uint8)
    images = {f"c{n % 2}/{n}.png": encoded(noise[n], compress_level=0) for n in range(60)}
    path = packed(tmp_path / f"x.{kind}", images)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    data = load(path)
    whole = data.table["decision"] == "used"
    assert 20 <= whole.sum() <= 45  # bzip2 loses a block, up to 900 kB
    assert any("damaged" in said or "truncated" in said for said in data.warnings)


def test_a_zip_written_to_a_pipe_is_recovered_without_its_directory(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in GOOD.items():
            file.writestr(name, data)
    (tmp_path / "x.zip").write_bytes(pipe.data[: pipe.data.index(b"PK\x01\x02")])
    assert used(load(tmp_path / "x.zip")) == ["cat/1.png", "dog/2.png"]


@pytest.mark.parametrize("form", ["zip", "self-extracting", "zip64"])
def test_forms_of_a_zip_give_the_same(tmp_path, form):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in GOOD.items():
            with file.open(name, "w", force_zip64=form == "zip64") as member:
                member.write(data)
        file.comment = b"a remark"
    if form == "self-extracting":
        path.write_bytes(b"PK program" + bytes(1000) + path.read_bytes())
    assert used(load(path)) == ["cat/1.png", "dog/2.png"]


def test_the_large_fields_of_a_zip64_directory_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    assert used(load(packed(tmp_path / "x.zip", GOOD))) == ["cat/1.png", "dog/2.png"]


def central(raw, name):
    """Where the entry of a member in the directory of a zip begins."""
    return raw.rfind(name.encode()) - 46


@pytest.mark.parametrize(
    ("at", "change", "reason"),
    [
        (16, 1, "checksum"),
        (24, -1, "more bytes than its header says"),
        (24, 1, "fewer bytes than its header says"),
        (42, 7, "its own header is missing"),
    ],
)
def test_a_lie_in_the_directory_of_a_zip_is_found_while_reading(tmp_path, at, change, reason):
    path = packed(tmp_path / "x.zip", {**GOOD, "photos/dog/3.png": encoded(picture(3))})
    raw = bytearray(path.read_bytes())
    place = central(raw, "photos/cat/1.png") + at
    (value,) = struct.unpack_from("<L", raw, place)
    struct.pack_into("<L", raw, place, value + change)
    path.write_bytes(raw)
    data = load(path)
    assert reason in reasons(data)["cat/1.png"]
    assert len(data.usable) == 2


def test_members_of_a_zip_that_share_bytes_are_refused_but_for_one(tmp_path):
    path = packed(tmp_path / "x.zip", {f"photos/cat/{n}.png": PNG for n in range(5)} | GOOD)
    raw = bytearray(path.read_bytes())
    first = struct.unpack_from("<L", raw, central(raw, "photos/cat/0.png") + 42)[0]
    for n in range(5):  # all of them point to the first
        struct.pack_into("<L", raw, central(raw, f"photos/cat/{n}.png") + 42, first)
    path.write_bytes(raw)
    data = load(path)
    overlapping = [path for path, said in reasons(data).items() if "overlaps" in said]
    assert len(overlapping) == 4


def test_a_member_that_reaches_into_the_next_by_its_own_header_is_refused(tmp_path):
    path = packed(tmp_path / "x.zip", GOOD)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<H", raw, 28, 40)  # an extra field that would quote the next header
    path.write_bytes(raw)
    assert "overlaps another member" in reasons(load(path))["cat/1.png"]


def bomb(path, size):
    """A zip with a PNG head and zeros behind it, that declares nearly nothing."""
    data = PNG + bytes(size)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("photos/cat/bomb.png", data)
        for name, good in GOOD.items():
            file.writestr(name, good)
    return path


def test_a_member_is_never_expanded_beyond_what_it_declares(tmp_path, monkeypatch):
    path = bomb(tmp_path / "x.zip", 20_000_000)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<L", raw, central(raw, "photos/cat/bomb.png") + 24, 1000)
    path.write_bytes(raw)
    expanded = []
    real = members._read

    def read(file, extent, most):
        data = real(file, extent, most)
        expanded.append(len(data))
        return data

    monkeypatch.setattr(members, "_read", read)
    assert "more bytes" in reasons(load(path))["cat/bomb.png"]
    assert max(expanded) <= max(1001, len(PNG) * 2)


def test_a_member_that_expands_too_much_is_set_aside(tmp_path):
    data = load(bomb(tmp_path / "x.zip", 20_000_000))
    assert "expands to more than 200 times" in reasons(data)["cat/bomb.png"]
    assert used(data) == ["cat/1.png", "dog/2.png"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_limits_of_members_and_bytes_hold(tmp_path, kind, monkeypatch):
    path = packed(tmp_path / f"x.{kind}", {**GOOD, "photos/zebra/3.png": PNG})
    monkeypatch.setattr(members, "MAX_TOTAL", sum(map(len, GOOD.values())) + 10)
    assert "fill the limit" in reasons(load(path))["zebra/3.png"]
    monkeypatch.setattr(members, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="no image that can be used"):
        load(path)
    monkeypatch.setattr(members, "MAX_MEMBERS", 2)
    monkeypatch.setattr("labelwise.data.zips.MAX_MEMBERS", 2)
    with pytest.raises(DataError, match=r"has more than 2 members\. Extract it yourself"):
        load(path)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_compressed_tar_that_expands_too_much_is_refused_and_leaves_nothing(
    tmp_path, kind, monkeypatch
):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(unpack, "RATIO_FROM", 2**20)
    path = packed(tmp_path / f"x.{kind}", {**GOOD, "cat/x": bytes(20_000_000)})
    with pytest.raises(DataError, match="expands to more than 200 times its size"):
        load(path)
    monkeypatch.setattr(unpack, "MAX_TOTAL", 2**30 // 1024)
    monkeypatch.setattr(unpack, "RATIO_FROM", 2**40)
    with pytest.raises(DataError, match="expands to more than 0 GB"):
        load(path)
    assert [file.name for file in (tmp_path / "cache" / "archives").iterdir()] == [".lock"]


def test_copies_of_compressed_tars_are_limited_and_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(unpack, "KEPT_BYTES", 20_000)
    first = load(packed(tmp_path / "1.tar.gz", GOOD))
    load(packed(tmp_path / "2.tar.gz", {**GOOD, "photos/dog/3.png": PNG}))
    assert len(list((cache_folder() / "archives").glob("*.tar"))) == 1
    np.testing.assert_array_equal(first.pixels.read(0), picture(1))


def test_a_wrong_checksum_at_the_end_of_a_gzip_is_a_warning(tmp_path):
    path = packed(tmp_path / "x.tar.gz", GOOD)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    for _ in range(2):  # also from the copy in the cache
        data = load(path)
        assert len(data.usable) == 2
        assert "compressed data are damaged" in data.warnings[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 2000, b"\x1f\x8b", b"PK\x05\x06" * 9])
def test_what_is_no_archive_is_one_error(tmp_path, kind, content):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an archive: .* Expected a \.zip"):
        load(path)


def test_a_target_is_refused_as_for_a_folder(tmp_path):
    with pytest.raises(DataError, match="no label column 'kind'"):
        load(packed(tmp_path / "x.zip", GOOD), target="kind")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One small archive of every kind, as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    small = {f"p/c{n % 2}/{n}.png": encoded(picture(n, 6, 5)) for n in range(4)}
    return {kind: packed(folder / f"x.{kind}", small).read_bytes() for kind in KINDS}


@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=6),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(
    max_examples=150,
    deadline=5000,  # milliseconds: whatever the damage, it ends
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_damage_ends_in_data_or_in_one_error(whole, tmp_path, kind, changes, keep):
    raw = bytearray(whole[kind])
    for place, data in changes:
        at = int(place * (len(raw) - 1))
        raw[at : at + len(data)] = data
    path = tmp_path / f"x.{kind}"
    path.write_bytes(raw[: int(keep * len(raw))])
    try:
        data = load(path)
    except DataError:
        return
    for row in data.usable:
        assert data.pixels.read(row).dtype == np.uint8
    assert all(reasons(data).values())


@given(st.binary(max_size=600), st.sampled_from(["zip", "tar", "tar.gz"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_data_or_one_error(tmp_path, raw, kind):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(raw)
    with pytest.raises(DataError):
        load(path)


def test_real_photos_in_a_tar_are_those_in_its_zip(tmp_path, shared_data):
    images = {}
    with tarfile.open(shared_data / "photos_food.tar") as file:
        for member in file.getmembers()[:60]:
            images[member.name] = file.extractfile(member).read()
    tar, zipped = packed(tmp_path / "x.tar.gz", images), packed(tmp_path / "x.zip", images)
    assert load(tar).fingerprint == load(zipped).fingerprint

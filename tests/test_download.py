"""Downloads: whole or not at all, within limits, from a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save

from labelwise.backbones import backbone_status, download_weights, find_pretrained, hub
from labelwise.download import download
from labelwise.errors import BackboneError

DATA = bytes(range(256)) * 8
DIGEST = hashlib.sha256(DATA).hexdigest()
COMMIT = "c" * 40
NAME = "test_efficientnet"  # its weights are a file of a hundred kilobytes on the hub


class Answers(BaseHTTPRequestHandler):
    """Serves `server.files`; odd paths break off, lead elsewhere or have no end."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        data = self.server.files.get(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        promised = len(data) + (100 if self.path == "/broken" else 0)
        if self.path != "/endless":
            self.send_header("Content-Length", str(promised))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """Its address, and the files it has."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    found.files = dict.fromkeys(("/whole", "/broken", "/endless"), DATA)
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}", found.files
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize("path", ["/whole", "/away"])
def test_a_file_comes_whole_also_from_where_a_redirect_leads(server, path, tmp_path):
    download(server[0] + path, tmp_path / "a" / "file", largest=len(DATA), private=True)
    assert (tmp_path / "a" / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("/whole", {"largest": 100}, "has 2048 bytes; expected 100 at most"),
        ("/endless", {"largest": 100}, "does not end after 100 bytes"),
        ("/broken", {}, "broke off after 2048 of 2148 bytes"),
        ("/whole", {"digest": "0000"}, "expected one that begins with 0000"),
        ("/missing", {}, "answers 404"),
    ],
)
def test_what_is_not_the_file_expected_leaves_none(server, path, options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        download(
            server[0] + path, tmp_path / "file", **{"largest": 10**6, "private": True} | options
        )
    assert list(tmp_path.iterdir()) == []


def test_the_digits_of_its_hash_are_checked(server, tmp_path):
    download(server[0] + "/whole", tmp_path / "x", largest=10**6, digest=DIGEST[:8], private=True)
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("scheme", "said"), [("http", "begins with https"), ("https", "is no public address")]
)
def test_addresses_of_this_machine_are_refused_unless_allowed(server, scheme, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        download(server[0].replace("http", scheme) + "/whole", tmp_path / "x", largest=10**6)


def test_other_schemes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is not an address that begins with https"):
        download("file:///etc/passwd", tmp_path / "x", largest=10**6)


def test_a_server_that_is_not_there_is_said_at_once(server, tmp_path):
    with pytest.raises(ValueError, match="cannot be reached"):
        download("http://127.0.0.1:9/x", tmp_path / "x", largest=10**6, private=True)


@pytest.fixture
def hubs(server, tmp_path, monkeypatch):
    """Both hubs are the server, their caches new folders."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "ENDPOINT", server[0])
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", server[0])
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.utils.disable_progress_bars()
    return server


def test_weights_come_from_the_hugging_face_hub_and_are_found_from_then_on(hubs):
    net = timm.create_model(NAME, pretrained=False)
    repository = timm.get_pretrained_cfg(NAME).hf_hub_id
    with pytest.raises(BackboneError, match="labelwise doctor --download"):
        find_pretrained(NAME)
    hubs[1][f"/{repository}/resolve/main/model.safetensors"] = save(net.state_dict())
    found = download_weights(NAME)
    assert found == find_pretrained(NAME)
    assert found.body().net.conv_stem.weight.equal(net.conv_stem.weight)
    assert backbone_status()[f"{NAME}.r160_in1k"].startswith("ready")


def test_weights_that_only_have_an_address_come_from_there(hubs, monkeypatch):
    state = timm.create_model(NAME, pretrained=False).state_dict()
    data = save(state)
    file = f"/net-{hashlib.sha256(data).hexdigest()[:8]}.safetensors"
    hubs[1][file] = data
    values = {**hub.known_values(NAME), "hf_hub_id": None, "url": hubs[0] + file}
    monkeypatch.setattr(hub, "known_values", lambda name: values)
    with pytest.raises(BackboneError, match="begins with https"):
        download_weights(NAME)

    def allowed(*arguments, **options):
        download(*arguments, **options, private=True)

    monkeypatch.setattr(hub, "download", allowed)
    assert download_weights(NAME).file.name == file[1:]
    find_pretrained(NAME).file.write_bytes(b"damaged")
    with pytest.raises(BackboneError, match="damaged. Delete it"):
        find_pretrained(NAME)


def test_without_a_network_one_line_says_what_to_do(hubs, monkeypatch):
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(BackboneError, match=rf"cannot be downloaded.*{NAME}@FILE") as caught:
        download_weights(NAME)
    assert "\n" not in str(caught.value)


def test_weights_for_non_commercial_use_are_not_fetched(hubs, monkeypatch):
    values = {**hub.known_values(NAME), "license": "cc-by-nc-4.0"}
    monkeypatch.setattr(hub, "known_values", lambda name: values)
    with pytest.raises(BackboneError, match="non-commercial"):
        download_weights(NAME)



def write_report(folder, dataset):
    (folder / "report.html").write_text("todo")

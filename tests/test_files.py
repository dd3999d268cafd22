"""Files and folders are written whole or not at all."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ima.files import read_json, replace_file, replace_folder, write_json

ROOT = Path(__file__).parents[1]


class Killed(Exception):
    pass


def write_half(path):
    with replace_file(path) as partial:
        partial.write_text("half")
        raise Killed


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "card.json", {"a": 1})
    with pytest.raises(Killed):
        write_half(tmp_path / "card.json")
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
    assert read_json(tmp_path / "card.json") == {"a": 1}


def test_a_file_of_json_is_utf8_whatever_the_locale_says(tmp_path):
    path = tmp_path / "card.json"
    code = (
        "import sys; from pathlib import Path; from ima.files import read_json, write_json; "
        "path = Path(sys.argv[1]); write_json(path, {'name': '\\u03b1'}); "
        "write_json(path, read_json(path))"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run(
        [sys.executable, "-c", code, path], check=True, cwd=ROOT, env={**os.environ, **ascii_only}
    )
    assert '"name": "α"' in path.read_text(encoding="utf-8")


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path, begun, may_end = tmp_path / "card.json", threading.Event(), threading.Event()

    def write_slowly():
        with replace_file(path) as partial:
            partial.write_text("slow, first half")
            begun.set()
            may_end.wait(10)
            with partial.open("a") as file:
                file.write(", second half")

    slow = threading.Thread(target=write_slowly)
    slow.start()
    begun.wait(10)
    with replace_file(path) as partial:
        partial.write_text("quick")
    assert path.read_text() == "quick"
    may_end.set()
    slow.join()
    assert path.read_text() == "slow, first half, second half"
    assert list(tmp_path.iterdir()) == [path]


def make_folder(folder, *, text):
    with replace_folder(folder) as partial:
        (partial / "a.txt").write_text(text)
        (partial / "b.txt").write_text(text)


def make_half(folder):
    with replace_folder(folder) as partial:
        (partial / "a.txt").write_text("new")
        raise Killed


def read_folder(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "masks"
    make_folder(folder, text="old")
    with pytest.raises(Killed):
        make_half(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert read_folder(folder) == {"a.txt": "old", "b.txt": "old"}
    make_folder(folder, text="new")
    assert list(tmp_path.iterdir()) == [folder]
    assert read_folder(folder) == {"a.txt": "new", "b.txt": "new"}


def test_an_old_folder_that_cannot_be_deleted_is_replaced_all_the_same(tmp_path, monkeypatch):
    folder = tmp_path / "masks"
    make_folder(folder, text="old")
    (folder / "only-old.txt").touch()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    make_folder(folder, text="new")
    assert read_folder(folder) == {"a.txt": "new", "b.txt": "new"}


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_a_kill_while_a_folder_is_replaced_never_leaves_half_of_it(tmp_path, renames):
    """Before the old folder is moved away, before the new one moves in, and after that."""
    folder = tmp_path / "masks"
    make_folder(folder, text="old")
    child = os.fork()
    if child == 0:
        seen, rename, remove = [0], os.rename, shutil.rmtree

        def count():
            seen[0] += 1
            if seen[0] == renames:
                os.kill(os.getpid(), signal.SIGKILL)

        os.rename = lambda *paths: (count(), rename(*paths))[1]
        shutil.rmtree = lambda *paths, **given: (count(), remove(*paths, **given))[1]
        make_folder(folder, text="new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    if folder.exists():
        assert len(set(read_folder(folder).values())) == 1
        assert len(read_folder(folder)) == 2
    # The next writer puts the old folder back before it begins, and removes what was left.
    with pytest.raises(Killed), replace_folder(folder):
        raise Killed
    assert list(tmp_path.iterdir()) == [folder]
    assert set(read_folder(folder).values()) == {"new" if renames == 3 else "old"}


def test_what_a_killed_writer_left_is_removed(tmp_path):
    path = tmp_path / "training.pt"
    child = os.fork()
    if child == 0:
        with replace_file(path) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    with replace_file(path) as partial:
        partial.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


# What writes, by the last name of the call. `open` and `ZipFile` count in a mode that writes.
WRITERS = {
    "write_text",
    "write_bytes",
    "save_file",
    "save",
    "savez_compressed",
    "savefig",
    "to_zarr",
    "copytree",
    "copyfile",
    "copyfileobj",
    "copy2",
    "save_pretrained",
    "extractall",
    "execute_notebook",
}
OPENERS = {"open", "ZipFile"}
WHOLE = {"replace_file", "replace_folder"}
# Functions that write without it, each with the reason why no reader can see half of a file.
ELSEWHERE = {
    "ima/bench/capture_speed.py": "timed files of a temporary folder",
    "ima/bench/speed.py": "timed files of a temporary folder",
    "ima/bench/storage_speed.py": "timed files of a temporary folder",
    "ima/capture/worker_tasks.py": "rows of a unit, which the store writes whole",
    "ima/cli/faults.py": "a new file each time, which nothing reads",
    "ima/data/folders.py": "helpers that get the new folder of replace_folder",
    "ima/data/media.py": "a helper that gets the new folder of replace_folder",
    "ima/drawings/instrument_playing.py": "a conversion: it gets the new folder of replace_folder",
    "ima/drawings/rendering.py": "a conversion: it gets the new folder of replace_folder",
    "ima/drawings/spoken_voice.py": "a conversion: it gets the new folder of replace_folder",
    "ima/figures/phone.py": "a drawing in memory",
    "ima/miniature/cards.py": "a part of the zoo, which is one only once its card is written",
    "ima/miniature/zoo.py": "a part of the zoo, which is one only once its card is written",
    "ima/models/sparse_checkpoint.py": "a helper that gets the new folder of replace_folder",
    "ima/models/conversion": "conversions: they get the new folder of replace_folder",
    "ima/packages/archives.py": "members in a work folder, checked by digest",
    "ima/packages/clients.py": "the log of a package manager, in a work folder",
    "ima/packages/hub.py": "a download into the new folder of replace_folder",
    "ima/training/features.py": "appends; a record, written whole, says how much of it counts",
    "ima/notebook/runner.py": "papermill saves cell after cell; the runner renames at the end",
    "ima/notebook/cache_book.py": "copies of what a site is built from; the site is built anew",
}


def list_writes(path):
    """Yield the line of each call that writes outside of a replacement, and its name."""

    def visit(node, *, safe):
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items]
            names = {get_name(call) for call in calls if isinstance(call, ast.Call)}
            safe = safe or bool(names & WHOLE)
        if isinstance(node, ast.Call) and not safe and is_write(node):
            yield node.lineno, get_name(node)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, safe=safe)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), safe=False)


def get_name(call):
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def is_write(call):
    name = get_name(call)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [value.value for value in given if isinstance(value, ast.Constant)]
    if name in OPENERS:
        return any(isinstance(text, str) and text[:1] in ("w", "a", "x") for text in texts)
    return name in WRITERS


def test_everything_is_written_by_a_replacement():
    wrong, needed = [], set()
    for path in sorted((ROOT / "ima").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        writes = list(list_writes(path))
        listed = {entry for entry in ELSEWHERE if name == entry or name.startswith(f"{entry}/")}
        if listed and writes:
            needed |= listed
        elif writes:
            wrong += [f"{name}:{line} {call}" for line, call in writes]
    assert wrong == []
    assert sorted(needed) == sorted(ELSEWHERE)

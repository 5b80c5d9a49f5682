"""Files that are none, or that lie, where a run reads or writes; each in a process with limits.

The run must end soon, with status 2 and one printable line, and leave the file as it was. Where a run
may also do without the file, or set it aside, status 0 is right too.
"""

import io
import os
import shutil
import socket
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.campaigns.cases import Case
from tests.campaigns.runs import (
    Process,
    call,
    digits,
    expect_refusal,
    read_checkpoint,
    swiss_roll,
    write_checkpoint,
    write_images,
)

TRIED = "FIFOs, devices, links, bombs, odd names and nonsense as checkpoint, data, log, lock"
SECONDS = 20.0
MEMORY = 2**31
"""Bytes of address space that a run may add to what it begins with."""
PEAK = 300 * 2**20
"""Bytes that a checkpoint of 20 kB may need; a data file may hold an array of gigabytes."""


class Context(NamedTuple):
    """A finished run, images, and the folder of bombs."""

    finished: Path
    images: Path
    folder: Path


# --- what is put there --------------------------------------------------------------------


def _fifo(path: Path, context: Context) -> None:
    os.mkfifo(path)


def _socket(path: Path, context: Context) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.chdir(here)


def _link(target: str) -> Callable[[Path, Context], None]:
    return lambda path, context: path.symlink_to(target)


def _link_to_folder(path: Path, context: Context) -> None:
    elsewhere = path.parents[1] / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere)


def _content(content: bytes) -> Callable[[Path, Context], None]:
    return lambda path, context: path.write_bytes(content) and None


def _sparse(path: Path, context: Context) -> None:
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**40)


def _npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


# Kinds of arrays, by their shape and dtype or their header, and how many bytes of zeros follow.
BOMBS: dict[str, tuple[bytes, int]] = {
    "a bomb": (_npy_header((2**31,)), 2**31),
    "a bomb of a small array": (_npy_header((90, 4, 4)), 2**29),
    "a bomb of text": (_npy_header((), f"<U{2**27}"), 2**29),
    "a bomb of spaces": (b"\x93NUMPY\x02\x00\xff\xff\xff\x1f", 2**29),
    "a bomb beside": (_npy_header((2**29,)), 2**29),
}


def _write_bomb(path: Path, kind: str, finished: Path) -> None:
    """Write an archive of a megabyte that unpacks to hundreds."""
    header, size = BOMBS[kind]
    names = ["about.npy"] if kind == "a bomb" else ["about.npy", "images.npy"]
    if kind == "a bomb beside":  # of the arrays of a whole checkpoint
        shutil.copy(finished / "checkpoint.npz", path)
        names = ["z.npy"]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(header)
                for _ in range(size >> 20):
                    file.write(bytes(2**20))


def _bomb(kind: str) -> Callable[[Path, Context], None]:
    return lambda path, context: shutil.copy(context.folder / kind, path) and None


def _nested(path: Path, context: Context) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", bytes(2**24))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", inner.getvalue())
        archive.writestr("images.npy", inner.getvalue())


def _long_header(path: Path, context: Context) -> None:
    """A header that says that it is four gigabytes long."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("about.npy", "params/weight.npy", "images.npy"):
            archive.writestr(name, b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 1000)


def _many_members(path: Path, context: Context) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(30_000):
            archive.writestr(f"{k}.npy", b"")


def _unreadable(path: Path, context: Context) -> None:
    path.write_bytes(b"x")
    path.chmod(0)


FILES: dict[str, Callable[[Path, Context], None]] = {
    "a FIFO": _fifo,
    "a socket": _socket,
    "a folder": lambda path, context: path.mkdir(),
    "a link to a folder": _link_to_folder,
    "a link to itself": lambda path, context: path.symlink_to(path.name),
    "a link to nowhere": _link("/nowhere/at/all"),
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to /dev/full": _link("/dev/full"),
    "a link to /dev/random": _link("/dev/random"),
    "a link to a terminal": _link("/dev/ptmx"),
    "a link to memory": _link("/proc/self/mem"),
    "a link to standard input": _link("/dev/stdin"),
    "an empty file": _content(b""),
    "a text": _content(b"This is no file of ours.\n" * 3),
    "escape sequences": _content(b"PK\x03\x04\x1b[2J\xff\xfe\n" * 100),
    "a sparse file of a terabyte": _sparse,
    **{kind: _bomb(kind) for kind in BOMBS},
    "nested archives": _nested,
    "a header of gigabytes": _long_header,
    "an array of terabytes": _content(_npy_header((2**40, 2**20))),
    "an array of 70 axes": lambda path, context: _long_axes(path),
    "many members": _many_members,
    "an unreadable file": _unreadable,
}


def _long_axes(path: Path) -> None:
    text = repr({"descr": "|u1", "fortran_order": False, "shape": (1,) * 70}).encode() + b"\n"
    raw = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.npy", raw)
        archive.writestr("images.npy", raw)


# Values of the checkpoint's "about" and of its arrays that no run writes.
CLAIMS: dict[str, Callable[[dict[str, Any], Any], None]] = {
    "a step beyond the end": lambda arrays, about: about.update(step=31, optimizer_step=31),
    "a step far beyond": lambda arrays, about: about.update(step=10**18, optimizer_step=10**18),
    "a negative step": lambda arrays, about: about.update(step=-5, optimizer_step=-5),
    "half a step": lambda arrays, about: about.update(step=2.5),
    "a step of text": lambda arrays, about: about.update(step="\x1b[2J"),
    "a step of a thousand digits": lambda arrays, about: about.update(step=10**1000),
    "a configuration of nothing": lambda arrays, about: about.update(configuration=None),
    "a configuration of a list": lambda arrays, about: about.update(configuration=[1, 2]),
    "a long configuration": lambda arrays, about: about["configuration"].update(
        {f"name {k}": "x" * 1000 for k in range(100)}
    ),
    "an odd configuration": lambda arrays, about: about["configuration"].update(
        target="\x1b[2J\n\u202e"
    ),
    "weights of NaN": lambda arrays, about: arrays["params/bias"].fill(np.nan),
    "an average of infinity": lambda arrays, about: arrays["average/bias"].fill(np.inf),
    "negative second moments": lambda arrays, about: arrays["adam_v/bias"].fill(-1.0),
    "a sum of NaN": lambda arrays, about: arrays.update(loss_sum=np.float32(np.nan)),
    "sums of losses": lambda arrays, about: arrays.update(loss_sum=np.zeros(7, np.float32)),
    "weights of text": lambda arrays, about: arrays.update(
        {"params/bias": arrays["params/bias"].astype(str)}
    ),
    "weights of dates": lambda arrays, about: arrays.update(
        {"params/bias": np.zeros(arrays["params/bias"].shape, "datetime64[s]")}
    ),
    "weights that are complex": lambda arrays, about: arrays.update(
        {"params/bias": arrays["params/bias"] + 0j}
    ),
    "a beta of one number": lambda arrays, about: arrays.update(beta=np.float64(0.5)),
    "a beta of text": lambda arrays, about: arrays.update(beta=np.array(["a", "b"])),
}

LOGS = {
    "a log without lines": b"",
    "a log of nothing useful": b'{"step": 30}\n[]\nnull\n{"step": true}\n{"step": 1e3}\n"x"\n',
    "a log of a huge step": b'{"step": ' + b"9" * 5000 + b"}\n",
    "a deep log": b"[" * 100_000 + b"\n",
    "a log of NaN": b'{"step": 30, "loss": NaN}\n',
    "a log of bytes": bytes(range(256)) * 10,
    "a log of one long line": b'{"step": 30, "x": "' + b"x" * 10**7,
}

NAMES: dict[str, bytes] = {
    "a newline": b"a\nb",
    "an escape sequence": b"\x1b[2J\x1b]0;title\x07",
    "undecodable bytes": b"\xff\xfe\x80",
    "a right-to-left mark": "a\u202eb".encode(),
    "a tab and a bell": b"\t\x07",
    "quotes": b"'\"`$(true)",
    "a percent sign": b"%s%n{0}",
    "a long name": b"x" * 250,
    "a name too long": b"x" * 300,
    "a long path": b"/".join([b"y" * 200] * 19),
    "a path too long": b"/".join([b"y" * 200] * 25),
}


# --- where --------------------------------------------------------------------------------


def _as_checkpoint(case: Case, context: Context, kind: str) -> None:
    out = _copy(case, context, "checkpoint.npz")
    FILES[kind](out / "checkpoint.npz", context)
    if kind == "a link to nowhere":
        _expect_end(case, out, swiss_roll(out, "--resume"), f"{kind} as checkpoint", may_end_well=True)
        return
    may = kind == "a bomb beside"  # all that a checkpoint needs is there
    what = f"{kind} as checkpoint"
    _expect_end(case, out / "checkpoint.npz", swiss_roll(out, "--resume"), what, may, PEAK)


def _as_claim(case: Case, context: Context, kind: str) -> None:
    out = _copy(case, context, "checkpoint.npz")
    arrays, about = read_checkpoint(context.finished / "checkpoint.npz")
    CLAIMS[kind](arrays, about)
    write_checkpoint(out / "checkpoint.npz", arrays, about)
    _expect_end(case, out / "checkpoint.npz", swiss_roll(out, "--resume"), f"{kind} in a checkpoint")


def _as_fresh(case: Case, context: Context, kind: str, name: str = "checkpoint.npz") -> None:
    out = _copy(case, context, name)
    FILES[kind](out / name, context)
    what = f"{kind} as {name}, a fresh run"
    _expect_end(case, out / name, swiss_roll(out), what, may_end_well=True)


def _as_fresh_log(case: Case, context: Context, kind: str) -> None:
    _as_fresh(case, context, kind, "metrics.jsonl")


def _as_fresh_summary(case: Case, context: Context, kind: str) -> None:
    _as_fresh(case, context, kind, "summary.json")


def _as_previous(case: Case, context: Context, kind: str) -> None:
    _as_fresh(case, context, kind, "previous")


def _as_lock(case: Case, context: Context, kind: str) -> None:
    out = _copy(case, context, ".lock")
    FILES[kind](out / ".lock", context)
    what = f"{kind} as .lock, a fresh run"
    _expect_end(case, None, swiss_roll(out), what, may_end_well=True)  # a file there is the runs' own


def _as_data(case: Case, context: Context, kind: str) -> None:
    path = case.folder / "data.npz"
    FILES[kind](path, context)
    command = digits(case.folder / "run", data=path)
    _expect_end(case, path, command, f"{kind} as data")
    case.expect(not (case.folder / "run").exists(), f"{kind} as data: a folder was made")


def _as_log(case: Case, context: Context, kind: str) -> None:
    out = _copy(case, context, "metrics.jsonl")
    FILES[kind](out / "metrics.jsonl", context)
    what = f"{kind} as log"
    may = kind == "a link to nowhere"
    command = swiss_roll(out, "--resume")
    _expect_end(case, out / "metrics.jsonl", command, what, may, says="metrics.jsonl")


def _as_text_of_log(case: Case, context: Context, kind: str) -> None:
    out = _copy(case, context, "metrics.jsonl")
    (out / "metrics.jsonl").write_bytes(LOGS[kind])
    complete = kind in {"a log of nothing useful", "a log of NaN"}  # they have the line of step 30
    command = swiss_roll(out, "--resume")
    _expect_end(case, out / "metrics.jsonl", command, kind, complete, says="metrics.jsonl")


def _as_name_of_data(case: Case, context: Context, kind: str) -> None:
    path = _named(case, kind)
    if case.rng.random() < 0.5 and not kind.endswith("too long"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no images")
    command = digits(case.folder / "run", data=path)
    _expect_end(case, None, command, f"{kind} in the name of data")


def _as_name_of_folder(case: Case, context: Context, kind: str) -> None:
    """A folder of that name with a damaged checkpoint, so that messages name it."""
    out = _named(case, kind)
    what = f"{kind} in the name of the folder"
    if kind.endswith("too long"):
        _expect_end(case, None, swiss_roll(out), what)
        return
    shutil.copytree(context.finished, out)
    (out / "checkpoint.npz").write_bytes(b"PK\x03\x04 no checkpoint")
    _expect_end(case, out / "checkpoint.npz", swiss_roll(out, "--resume"), what)


PLACES: list[tuple[Callable[[Case, Context, str], None], Sequence[str]]] = [
    (_as_checkpoint, [*FILES]),
    (_as_data, [*FILES]),
    (_as_log, [*FILES]),
    (_as_claim, [*CLAIMS]),
    (_as_text_of_log, [*LOGS]),
    (_as_name_of_data, [*NAMES]),
    (_as_name_of_folder, [*NAMES]),
    *[
        (place, [kind for kind in FILES if "bomb" not in kind])
        for place in (_as_fresh, _as_fresh_log, _as_fresh_summary, _as_previous, _as_lock)
    ],
]
EVERYTHING = [(place, kind) for place, kinds in PLACES for kind in kinds]
CASES = len(EVERYTHING)


def prepare(folder: Path, numbers: Sequence[int]) -> Context:
    """Finish a run, write images and the bombs that are wanted."""
    call(swiss_roll(folder / "finished"), whole=True)
    for kind in BOMBS.keys() & {_wanted(number)[1] for number in numbers}:
        _write_bomb(folder / kind, kind, folder / "finished")
    return Context(folder / "finished", write_images(folder / "images.npz"), folder)


def try_case(case: Case, context: Context) -> None:
    """Put a file in a place, and run."""
    place, kind = _wanted(case.number)
    if kind == "an unreadable file" and os.geteuid() == 0:
        case.note("skipped: root reads everything")
        return
    place(case, context, kind)


def _wanted(number: int) -> tuple[Callable[[Case, Context, str], None], str]:
    """Neighbours in the list are alike: a stride gives a handful of cases some of everything."""
    return EVERYTHING[number * 37 % CASES]


def _copy(case: Case, context: Context, without: str) -> Path:
    """A finished run that lacks a file."""
    out = case.folder / "run"
    shutil.copytree(context.finished, out)
    (out / without).unlink(missing_ok=True)
    return out


def _named(case: Case, kind: str) -> Path:
    return Path(os.fsdecode(os.fsencode(case.folder) + b"/" + NAMES[kind]))


def _expect_end(
    case: Case,
    path: Path | None,
    command: list[str],
    what: str,
    may_end_well: bool = False,
    peak: int = 2**40,
    says: str = "",
) -> None:
    """The run refuses in one line, soon, in little memory, and leaves the file.

    Or it may end well, or does so and says something.
    """
    before = None if path is None else _fingerprint(path)
    limits = {"RLIMIT_AS": MEMORY, "RLIMIT_CPU": int(SECONDS)}
    ended = Process(command, limits=limits).wait(SECONDS)
    case.expect(ended.peak < peak, f"{what}: needs much memory", f"{ended.peak / 2**20:.0f} MB")
    may_end_well = may_end_well or bool(says and says in ended.out + ended.err)
    if may_end_well and ended.status == 0:
        case.expect(
            not ended.err or ended.err.startswith("warning"), f"{what}: ends well and says", ended
        )
        return
    if expect_refusal(case, ended, f"{what}:") and path is not None:
        case.expect(_fingerprint(path) == before, f"{what}: is not what it was", path)


def _fingerprint(path: Path) -> object:
    """What a file is, without opening anything that is none."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(path)
    content = path.read_bytes() if stat.S_ISREG(found.st_mode) and found.st_size < 10**8 else None
    return found.st_mode, found.st_ino, found.st_size, content

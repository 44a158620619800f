"""Gives hostile sheets, volumes, pictures, names and prepared folders to dataset.py.

    python -m tests.stress.inputs [--count 3] [--seed 0] [--only KIND ...]

Every input has less than 20 MB. Each kind is tried so many times, in sizes and variants that the
seed draws, by dataset.py in a process of its own with eight threads. It must end well, or with one
line, in time and with less than 2 GB of memory, and write nowhere but into its own data folder.
"""

import gzip
import io
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip
from PIL import Image
from tqdm import tqdm

from tests.stress import verdict
from tests.stress.hostile import changed
from tests.stress.kills import ROOT

LARGEST = 20_000_000  # bytes of an input
LONGEST = 600  # seconds for one input
MEGABYTE = 10**6
# Eight threads even on a small machine: each holds a scan in memory.
STARTER = """
import os, runpy, sys
os.cpu_count = lambda: 8
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
LETTERS = ("1-", "a", "sub-", "_", "-", "1", "ses_", " ", ".", "T1", "0", "x2y", "é", "2001-", "()")
ODD_NAMES = (
    "..png",
    "NA",
    "nan",
    "None",
    "NULL",
    "a\nb",
    "a\tb",
    "a\rb",
    "\x1b[2J",
    "\x7f",
    "=1+1",
)
ODD_NAMES += ("-rf", "@a", "'", '"', ",", ";", "%s", "{}", "\\", "~", "$HOME", "a\u202eb", "\u2028")
ODD_NAMES += (
    "\ufeff",
    "0",
    "1e999",
    "9" * 240,
    "é" * 120,
    b"\xff\xfe".decode("u8", "surrogateescape"),
)


def main():
    parser = verdict.parser(__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3, help="of each kind")
    parser.add_argument("--only", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    arguments = parser.parse_args()
    found = verdict.Verdict("inputs", arguments.seed)
    tasks = [(kind, number) for kind in arguments.only for number in range(arguments.count)]
    for kind, number in tqdm(tasks, desc="Reading", unit="input", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "in", "folders", "of", "its", "own")
            try_input(found, kind, number, Path(folder), place)
    found.end(arguments.report)


def try_input(found, kind, number, folder, place):
    """Makes one input, gives it to dataset.py, and adds what went wrong to the `Verdict`."""
    draw = random.Random(f"{found.seed} {kind} {number}")
    source, data = place / "source", place / "data"
    source.mkdir(parents=True)
    KINDS[kind](source, draw)
    size = sum(path.lstat().st_size for path in source.rglob("*") if path.is_file())
    if size > LARGEST:
        raise ValueError(f"{kind} {number} has {size:,} bytes, more than {LARGEST:,}")
    before = files(folder, data)
    command = [sys.executable, "-c", STARTER, ROOT / "dataset.py", "--dataset", source]
    command += ["--data-dir", data, "--max-bad-scans", "0.9"]
    command += draw.choice(([], [], ["--list"], ["--persons", "by-likeness"]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    ended = verdict.run(command, LONGEST, cwd=place, env=environment)
    found.tries += 1
    found.memory = max(found.memory, ended.memory)
    name = f"{kind}, number {number}"
    what = (verdict.errors_of(ended) or [""])[-1][:300]
    if trouble := verdict.trouble(ended, "dataset", (0, 1, 2)):
        found.add(trouble, f"{name}: status {ended.status}: {what}")
    elif ended.memory > verdict.MOST_MEMORY:
        found.add("other", f"{name}: {ended.memory / 1e9:.2f} GB: {what}")
    print(f"{name}: status {ended.status}, {ended.memory / 1e9:.2f} GB {what}", flush=True)
    for path in files(folder, data) - before:
        found.add("outside", f"{name}: {path}")
    for path in filter(verdict.half_written, data.rglob("*")):
        found.add("half-written", f"{name}: {path.name}")


def files(folder, data):
    """Returns the paths below a folder, except those below the data folder."""
    every = (Path(top, name) for top, some, more in os.walk(folder) for name in (*some, *more))
    return {path for path in every if path != data and data not in path.parents}


# Healthy neighbours, without which many an input would not be read at all


def healthy_pictures(folder, names=("P01", "P02", "P03")):
    """Writes a healthy picture for each of some persons."""
    random_numbers = np.random.default_rng(0)
    for name in names:
        picture = np.zeros((64, 64), np.uint8)
        picture[8:-8, 8:-8] = random_numbers.integers(20, 250, (48, 48))
        Image.fromarray(picture).save(folder / f"sub-{name}_10.png")


def healthy_volumes(folder):
    """Writes a healthy volume for each of three persons."""
    random_numbers = np.random.default_rng(0)
    for number in range(3):
        voxels = np.zeros((32, 32, 32), np.uint8)
        voxels[4:-4, 4:-4, 4:-4] = random_numbers.integers(20, 250, (24, 24, 24))
        image = nibabel.Nifti1Image(voxels, np.eye(4))
        nibabel.save(image, folder / f"sub-P{number}_T1w.nii.gz")


# Sheets


def workbook(folder, parts, method=zipfile.ZIP_DEFLATED):
    """Writes an `.xlsx` file beside healthy pictures, with some of its parts exchanged."""
    healthy_pictures(folder)
    row = "<row><c t='inlineStr'><is><t>ID</t></is></c></row>"
    pages = [name for name in parts if "worksheets" in name] or ["xl/worksheets/sheet1.xml"]
    links = "".join(
        f"<Relationship Id='r{number}' Type='{RELATIONS}/{kind}' Target='/{name}'/>"
        for number, (kind, name) in enumerate(
            [*(("worksheet", name) for name in pages), ("sharedStrings", "xl/sharedStrings.xml")]
        )
    )
    sheets = "".join(
        f"<sheet name='s{number}' sheetId='{number + 1}' r:id='r{number}'/>"
        for number in range(len(pages))
    )
    main_type = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    whole = {
        "[Content_Types].xml": f"<Types xmlns='{PACKAGE}/content-types'>"
        "<Default Extension='xml' ContentType='application/xml'/>"
        f"<Override PartName='/xl/workbook.xml' ContentType='{main_type}.sheet.main+xml'/>"
        f"<Override PartName='/xl/styles.xml' ContentType='{main_type}.styles+xml'/>"
        "<Override PartName='/xl/sharedStrings.xml' "
        f"ContentType='{main_type}.sharedStrings+xml'/></Types>",
        "_rels/.rels": f"<Relationships xmlns='{PACKAGE}/relationships'><Relationship Id='r0' "
        f"Type='{RELATIONS}/officeDocument' Target='xl/workbook.xml'/></Relationships>",
        "xl/workbook.xml": f"<workbook xmlns='{SPREADSHEET}' xmlns:r='{RELATIONS}'><sheets>{sheets}"
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f"<Relationships xmlns='{PACKAGE}/relationships'>{links}"
        "</Relationships>",
        "xl/worksheets/sheet1.xml": worksheet(row),
        "xl/sharedStrings.xml": f"<sst xmlns='{SPREADSHEET}'><si><t>ID</t></si></sst>",
    }
    with zipfile.ZipFile(folder / "sheet.xlsx", "w", method, compresslevel=9) as members:
        for name, content in (whole | parts).items():
            members.writestr(name, content)


def worksheet(rows):
    return f"<worksheet xmlns='{SPREADSHEET}'><sheetData>{rows}</sheetData></worksheet>"


def repeated(text, draw):
    """Returns a text repeated to a size that the seed draws: small, large, or beyond all bounds."""
    return text * (
        draw.choice((MEGABYTE, 20 * MEGABYTE, 60 * MEGABYTE, 200 * MEGABYTE)) // len(text)
    )


def shared_strings(folder, draw):
    text = draw.choice(("<si><t/></si>", "<si/>", "<si><r><t>a</t></r></si>", "<t>", "x"))
    content = f"<sst xmlns='{SPREADSHEET}'>{repeated(text, draw)}</sst>"
    workbook(folder, {"xl/sharedStrings.xml": content})


def cells_of_xlsx(folder, draw):
    one = "<c t='inlineStr'><is><t>ID</t></is></c>"
    far = "<row><c r='XFD1048576'><v>1</v></c></row>" * 3
    number = "9" * draw.choice((1, 10, 100, 5000))
    start, repeat, end = draw.choice(
        (
            ("<row>", "<c/>", "</row>"),
            (f"<row>{one}", "<c><v>1</v></c>", "</row>"),
            (f"<row>{one}</row>", "<row/>", ""),
            (f"<row>{one}</row>", "<row><c><v>1</v></c></row>", ""),
            (f"<row>{one}</row>", f"<row>{one * 1000}</row>", ""),
            (f"<row>{one}<c r='XFD1' t='inlineStr'><is><t>Age</t></is></c></row>", "", far),
            (f"<row r='1'>{one}</row><row r='{number}'>{one}</row>", "", ""),
            (f"<row><c r='{'Z' * draw.choice((4, 9, 99))}1'><v>1</v></c></row>", "", ""),
            (f"<row>{one}</row><row><c t='inlineStr'><is><t>", "x", "</t></is></c></row>"),
            (
                f"<row>{one}</row><row><c t='{draw.choice('sbnedz')}'><v>{number}</v></c></row>",
                "",
                "",
            ),
            ("", "<row><c>", ""),
        )
    )
    rows = start + (repeated(repeat, draw) if repeat else "") + end
    workbook(folder, {"xl/worksheets/sheet1.xml": worksheet(rows)})


def other_parts(folder, draw):
    styles = f"<styleSheet xmlns='{SPREADSHEET}'>", "</styleSheet>"
    link = f"<Relationship Id='r0' Type='{RELATIONS}/worksheet' Target='a.xml'/>"
    name, start, repeat, end = draw.choice(
        (
            ("xl/styles.xml", f"{styles[0]}<cellXfs>", "<xf/>", f"</cellXfs>{styles[1]}"),
            ("xl/styles.xml", f"{styles[0]}<fonts>", "<font><b/></font>", f"</fonts>{styles[1]}"),
            ("xl/styles.xml", f"{styles[0]}<dxfs>", "<dxf/>", f"</dxfs>{styles[1]}"),
            ("xl/styles.xml", styles[0], "<a>", ""),
            (
                "xl/workbook.xml",
                f"<workbook xmlns='{SPREADSHEET}'><definedNames>",
                "<definedName name='a'>1</definedName>",
                "</definedNames></workbook>",
            ),
            (
                "xl/_rels/workbook.xml.rels",
                f"<Relationships xmlns='{PACKAGE}/relationships'>",
                link,
                "</Relationships>",
            ),
            (
                "[Content_Types].xml",
                f"<Types xmlns='{PACKAGE}/content-types'>",
                "<Override PartName='/a' ContentType='b'/>",
                "</Types>",
            ),
            ("docProps/core.xml", "", "<a/>", ""),
        )
    )
    workbook(folder, {name: start + repeated(repeat, draw) + end})


def many_worksheets(folder, draw):
    rows = "<row><c t='inlineStr'><is><t>ID</t></is></c></row>"
    count = draw.choice((300, 3000, 10_000))
    pages = {f"xl/worksheets/s{number}.xml": worksheet(rows) for number in range(count)}
    workbook(folder, pages)


def entities(folder, draw):
    levels = draw.choice((3, 9, 20))
    text = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(levels))
    outside = draw.choice(("file:///etc/passwd", "file:///dev/zero"))
    text = draw.choice((f"<!ENTITY e0 'ha'>{text}", f"<!ENTITY e{levels} SYSTEM '{outside}'>"))
    row = f"<row><c t='inlineStr'><is><t>ID&e{levels};</t></is></c></row>"
    content = f"<!DOCTYPE worksheet [{text}]>{worksheet(row)}"
    workbook(folder, {"xl/worksheets/sheet1.xml": content})


def damaged_xlsx(folder, draw):
    method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    workbook(folder, {}, method)
    path = folder / "sheet.xlsx"
    data = bytearray(path.read_bytes())
    kind = draw.randrange(6)
    headers = [match.start() for match in re.finditer(rb"PK\x01\x02", bytes(data))]
    if kind == 0:
        del data[draw.randrange(len(data)) :]
    elif kind == 1:  # the bit that says it is encrypted
        for place in headers:
            data[place + 8] |= 1
    elif kind == 2:  # a compression of which nobody has heard
        for place in headers:
            data[place + 10 : place + 12] = struct.pack("<H", draw.choice((1, 9, 93, 99)))
    elif kind == 3:  # sizes that are not true
        for place in headers:
            data[place + 24 : place + 28] = struct.pack(
                "<I", draw.choice((0, 10, 2**31, 2**32 - 1))
            )
    elif kind == 4:
        for _ in range(20):
            data[draw.randrange(len(data))] = draw.randrange(256)
    else:
        data[:] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + draw.randbytes(4096)
    path.write_bytes(data)


def cells_of_csv(folder, draw):
    healthy_pictures(folder)
    size = draw.choice((MEGABYTE, 8 * MEGABYTE, 19 * MEGABYTE))
    header, digits = "ID,Age,Sex,CDR,Date,Visit\n", "9" * draw.choice((400, 5000, 32_000))
    kinds = (
        lambda: "ID" + "," * (size // 2) + "\n" + "," * (size // 2),
        lambda: "ID," * (size // 3),
        lambda: "x" * size,
        lambda: f"{header}P01,{'9' * size}\n",
        lambda: f'{header}P01,"{"a" * size}',
        lambda: f'{header}"' + '"",' * (size // 4),
        lambda: header + "\0" * size,
        lambda: header + "P01,1\n" * (size // 6),
        lambda: header + "\n" * size,
        lambda: header + "P01\r" * (size // 4),
        lambda: "sep=" + "," * size,
        lambda: "ID," + ",".join(f"{n} {'x' * 8000}" for n in range(size // 8010)) + "\nP01,1\n",
        lambda: ",".join(["ID", *(f"a{n}" for n in range(4000))]) + "\nP01" * (size // 50),
        lambda: f"{header}P01,{digits},{digits},{digits},{digits},{digits}\n" * 3,
        lambda: header + "".join(f"P{n:02d},{n},M,{n},{n},{n}\n" for n in range(size // 20)),
        lambda: header + "P01,74,M,0,2001-01-01,1\n" * (size // 25),
        lambda: f"{header}{'sub-' * 8000},{'(' * 8000},{'1-' * 8000},{'1,' * 9}\n" * 9,
        lambda: f"{header}P01,74,M,0," + draw.choice(LETTERS) * 16_000 + ",1\n",
        lambda: "".join(draw.choices(LETTERS, k=8000)) + ",ID\n" + "P01,1\n",
    )
    text = draw.choice(kinds)()
    encoding = draw.choice(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
    (folder / draw.choice(("a.csv", "a.tsv"))).write_bytes(text.encode(encoding)[: LARGEST - 10**5])


def odd_sheets(folder, draw):
    healthy_pictures(folder)
    path = folder / draw.choice(("a.csv", "a.xlsx", "a.tsv", "participants.json", "a.xls"))
    kinds = (
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/dev/full"),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to("nowhere"),
        lambda: path.symlink_to(folder),
        path.mkdir,
        lambda: path.write_bytes(draw.randbytes(draw.choice((0, 1, 10, 10**6)))),
        lambda: path.write_text("[" * draw.choice((9, 10**6))),
    )
    draw.choice(kinds)()
    if path.suffix == ".json":
        (folder / "dataset_description.json").write_text(draw.choice(("", "{}", "[]", "[" * 10**6)))
        (folder / "participants.tsv").write_text("participant_id\tsex\nsub-P01\t1\n")


# Volumes


def volume_header(shape, code, sizes=(1.0, 1.0, 1.0)):
    """Returns the 352 bytes before the voxels of a NIfTI file, whatever sense they make."""
    header = nibabel.Nifti1Header()
    header["dim"] = ([len(shape), *shape] + [1] * 8)[:8]
    header["pixdim"][1:4] = sizes
    header["datatype"] = code
    header["bitpix"] = {2: 8, 4: 16, 16: 32, 64: 64, 512: 16, 1792: 128}.get(code, 8)
    header["sform_code"], header["vox_offset"] = 1, 352
    header["srow_x"][0], header["srow_y"][1], header["srow_z"][2] = sizes
    header["magic"] = b"n+1"
    return header.binaryblock + bytes(4)


def packed(path, start, block, size):
    """Writes a packed file: a start, and a block repeated to a size in bytes."""
    with igzip.open(path, "wb", compresslevel=3) as file:
        file.write(start)
        pieces = block * max(MEGABYTE // len(block), 1)
        for written in range(0, size, len(pieces)):
            file.write(pieces[: size - written])


def voxel_block(kind, draw):
    """Returns a thousand voxels of a NumPy type: black, few, many, negative or not numbers."""
    numbers = np.random.default_rng(draw.randrange(99))
    low, high = ((0, 1), (0, 4), (0, 200), (-100, 100), (60, 100))[draw.randrange(5)]
    block = numbers.integers(low, high, 1024).repeat(draw.choice((1, 1, 90))).astype(kind)
    if np.dtype(kind).kind == "f" and draw.random() < 0.3:
        block[draw.randrange(block.size)] = draw.choice((np.nan, np.inf, -1e30, 1e38))
    return block.tobytes()


def packed_volumes(folder, draw):
    """Several packed volumes just below the bound, of as many persons, or of one."""
    code, kind = draw.choice(((2, "u1"), (4, "<i2"), (16, "<f4"), (64, "<f8"), (512, "<u2")))
    shape = draw.choice(((512, 512, 256), (1024, 1024, 64), (256, 256, 256), (4096, 4096, 4)))
    sizes = (draw.choice((0.05, 0.5, 1.0, 3.0)),) * 3
    block, path = voxel_block(kind, draw), folder / "sub-A0_T1w.nii.gz"
    start = volume_header(shape, code, sizes)
    length = int(np.prod(shape)) * np.dtype(kind).itemsize
    packed(path, start, block, length)
    if path.stat().st_size > LARGEST:
        packed(path, start, bytes(1024), length)
    several = draw.choice(("sub-A{}_T1w.nii.gz", "sub-A_run-{}_T1w.nii.gz"))
    path = path.rename(folder / several.format(0))
    most = draw.choice((2, 3, 8)) if np.prod(shape) < 2**25 else 3
    for number in range(1, min(most, LARGEST // path.stat().st_size)):
        shutil.copy(path, folder / several.format(number))


def slices_as_volumes(folder, draw):
    """Very many volumes one slice thick, of one person or of several."""
    side = draw.choice((64, 512, 2048, 4096))
    code, kind = draw.choice(((2, "u1"), (16, "<f4"), (64, "<f8")))
    path = folder / "sub-A_slice-0.nii.gz"
    start = volume_header((side, side, 1), code)
    packed(path, start, voxel_block(kind, draw), side * side * np.dtype(kind).itemsize)
    most = min(draw.choice((20, 300, 2000)), LARGEST // path.stat().st_size - 1)
    for number in range(1, most):
        person = draw.choice(("A", "A", "B"))
        shutil.copy(path, folder / f"sub-{person}_slice-{number}.nii.gz")


def odd_headers(folder, draw):
    healthy_volumes(folder)
    shapes = ((32767, 32767, 32767), (-5, 10, 10), (0, 10, 10), (10, 10, 10, 500), (10, 10))
    shapes += (
        (32767, 32767, 1),
        (1, 1, 1),
        (4096, 4096, 2),
        (3, 10, 10, 10),
        (1, 32767, 2),
        (10,) * 7,
    )
    odd = (0.0, -1.0, 0.001, 90.0, 1e30, float("nan"), float("inf"))
    sizes = [draw.choice((1.0, 1.0, *odd)) for _ in range(3)]
    code = draw.choice((2, 2, 64, 0, 1, 128, 1792, 2304, 9999))
    start = bytearray(volume_header(draw.choice((*shapes, *[(30, 30, 30)] * 6)), code, sizes))
    if draw.random() < 0.3:  # an extension of a huge size, or of none
        start[348:352] = b"\1\0\0\0"
        start += struct.pack("<ii", draw.choice((2**31 - 16, 0, -16, 16, 2**20)), 6) + bytes(8)
    if draw.random() < 0.3:
        start[108:112] = struct.pack("<f", draw.choice((1e30, -1.0, float("nan"), 0.0, 353.5)))
    if draw.random() < 0.3:  # slope and intercept
        start[112:120] = struct.pack("<ff", *(draw.choice((*odd, 1e-30)) for _ in range(2)))
    content = bytes(start) + voxel_block("u1", draw)[:1024] * draw.choice((0, 27, 1000))
    if draw.random() < 0.3:
        content = gzip.compress(content)[: draw.choice((None, 100, -8))]
    (folder / draw.choice(("sub-X_T1w.nii", "sub-X_T1w.nii.gz"))).write_bytes(content)


def odd_volumes(folder, draw):
    healthy_volumes(folder)
    path = folder / draw.choice(("sub-X_T1w.nii.gz", "sub-X_T1w.mgz", "sub-X_T1w.hdr", "X.nii"))
    big = struct.pack(">iiiiiiih", 1, *draw.choice(((2**31 - 1,) * 3, (512, 512, 256))), 1, 3, 0, 1)
    big += struct.pack(">15f", *(1, 1, 1), *(-1, 0, 0), *(0, 0, -1), *(0, 1, 0), *(0, 0, 0))
    kinds = (
        lambda: packed(path, big.ljust(284, b"\0"), b"\0" * 1000, 900 * MEGABYTE),
        lambda: packed(path, b"", b"\0" * 1000, 2000 * MEGABYTE),
        lambda: path.write_bytes(gzip.compress(b"")),
        lambda: path.write_bytes(gzip.compress(b"a") * 400_000),
        lambda: path.write_bytes(b"\x1f\x8b" + draw.randbytes(1000)),
        lambda: path.write_bytes(draw.randbytes(1000)),
        lambda: path.write_bytes(b"version https://git-lfs"),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path.name),
        lambda: os.mkfifo(path),
        lambda: path.with_suffix(".img").symlink_to("/dev/zero"),
        lambda: os.mkfifo(path.with_suffix(".img")),
    )
    draw.choice(kinds)()
    if path.suffix == ".hdr" and not path.exists():
        path.write_bytes(volume_header((10, 10, 10), 2).replace(b"n+1", b"ni1"))


# Pictures


def png(width, height, depth, colour, data, more=()):
    """Returns a PNG file of these claims, with further chunks."""

    def chunk(name, content):
        sum_of = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_of

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    extra = b"".join(chunk(*one) for one in more)
    return b"\x89PNG\r\n\x1a\n" + start + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def deflated(row, count):
    """Returns so many equal rows of a PNG, packed."""
    packer = zlib.compressobj(6)
    return b"".join([*(packer.compress(b"\0" + row) for _ in range(count)), packer.flush()])


def packed_pictures(folder, draw):
    """Many pictures just below the bound, of as many persons, or of one."""
    colour, depth, width = draw.choice(((0, 8, 1), (0, 16, 2), (2, 8, 3), (6, 8, 4), (6, 16, 8)))
    side = draw.choice((1024, 2048, 4096))
    low, high = draw.choice(((0, 2), (0, 200), (60, 100)))
    row = np.random.default_rng(draw.randrange(9)).integers(low, high, side * width, np.uint8)
    border = draw.choice((0, side * width // 3))
    row[:border] = 0
    content = png(side, side, depth, colour, deflated(row.tobytes(), side))
    slices = draw.choice((1, 3, 4, 16))
    for number in range(min(draw.choice((8, 32, 100)), LARGEST // len(content))):
        name = f"sub-A{number // slices}_slice-{number % slices}.png"
        (folder / name).write_bytes(content)


def odd_pictures(folder, draw):
    healthy_pictures(folder)
    path = folder / draw.choice(("sub-X_10.png", "sub-X_10.tif", "sub-X_10.jpg"))
    grey = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    small = deflated(grey[0].tobytes(), 64)
    bomb = zlib.compress(bytes(MEGABYTE) * 100, 9)
    text = [b"zTXt", b"a\0\0" + bomb], [b"iTXt", b"a\0\1\0\0\0" + bomb], [b"iCCP", b"a\0\0" + bomb]
    text += ([b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * 60_000], [b"tEXt", b"a\0" + b"b" * 10**7])
    sides = ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (4096, 4096), (1, 4096), (0, 0), (5000, 1))

    def pictures_of(kind, **options):
        Image.fromarray(grey).save(path, format=kind, **options)

    def pages():
        pictures_of("TIFF", save_all=True, append_images=[Image.fromarray(grey)] * 1000)

    def loop():  # the first directory names itself as the next one
        pictures_of("TIFF")
        data = bytearray(path.read_bytes())
        (first,) = struct.unpack("<I", data[4:8])
        (count,) = struct.unpack("<H", data[first : first + 2])
        data[first + 2 + 12 * count :][:4] = data[first + 2 + 12 * count : first + 6 + 12 * count]
        data[first + 2 + 12 * count : first + 6 + 12 * count] = struct.pack("<I", first)
        path.write_bytes(data)

    def tiff():
        pictures_of("TIFF")
        data = bytearray(path.read_bytes())
        for _ in range(draw.choice((1, 4))):  # entries of the directory, and what they say
            data[draw.randrange(8, 200) % len(data)] = draw.choice((0, 1, 255, draw.randrange(256)))
        path.write_bytes(data)

    def jpeg():
        pictures_of("JPEG")
        data = bytearray(path.read_bytes())
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = struct.pack(
            ">HH", *draw.choice(((65500, 65500), (4096, 4096)))
        )
        path.write_bytes(data)

    def torn():
        pictures_of(draw.choice(("JPEG", "PNG", "TIFF")))
        data = bytearray(path.read_bytes())
        for _ in range(draw.choice((0, 1, 9))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice((len(data), draw.randrange(len(data))))])

    kinds = (
        lambda: path.write_bytes(png(*draw.choice(sides), 8, 0, draw.choice((small, bomb)))),
        lambda: path.write_bytes(png(64, 64, 8, 0, small, [draw.choice(text)])),
        lambda: path.write_bytes(png(64, 64, 8, 0, small, [draw.choice(text)] * 9)[: LARGEST // 2]),
        lambda: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n"),
        lambda: pictures_of(draw.choice(("GIF", "BMP", "WEBP", "PPM", "ICO"))),
        *(pages, loop, tiff, tiff, tiff, jpeg, torn, torn),
        lambda: Image.new("L", (4096, 4096), 7).save(path, "TIFF", compression="tiff_lzw"),
        lambda: Image.new("F", (4096, 4096), np.nan).save(path.with_suffix(".tif"), "TIFF"),
        lambda: path.write_bytes(b""),
        lambda: path.symlink_to("/dev/zero"),
        lambda: os.mkfifo(path),
    )
    draw.choice(kinds)()
    if path.is_file() and not path.is_symlink() and path.stat().st_size > LARGEST - 10**5:
        os.truncate(path, LARGEST - 10**5)


# Names


def odd_names(folder, draw):
    healthy_pictures(folder)
    content = (folder / "sub-P01_10.png").read_bytes()
    for _ in range(draw.choice((3, 30))):
        name = draw.choice(
            (*ODD_NAMES, "".join(draw.choices(LETTERS, k=draw.choice((3, 40, 120)))))
        )
        name = os.fsdecode(os.fsencode(name.replace("/", "_"))[:240])
        pattern = draw.choice(
            ("{}.png", "sub-{}_10.png", "{}/a.png", "{}/{}.png", "{}_ses-1_T1w.png")
        )
        path = folder / pattern.format(name, name)
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        except OSError:  # not every name is possible
            continue


def odd_folders(folder, draw):
    healthy_pictures(folder)
    content = (folder / "sub-P01_10.png").read_bytes()
    place = folder / "a"
    place.mkdir()

    def deep():  # deeper than any path may be long
        back = Path.cwd()
        try:
            for _ in range(draw.choice((10, 30, 300))):
                Path("x" * 200).mkdir()
                os.chdir("x" * 200)
                Path("a.png").write_bytes(content)
        finally:
            os.chdir(back)

    def many():
        for number in range(draw.choice((3000, 20_000))):
            (place / f"sub-{number}_1.png").touch()

    def links():
        for number in range(30):
            (place / f"{number}").symlink_to(draw.choice((".", "..", folder, "30")))

    def special():
        for number in range(5):
            os.mkfifo(place / f"sub-F{number}_10.png")
            (place / f"sub-Z{number}_10.png").symlink_to(
                draw.choice(("/dev/zero", "no", "/etc/passwd"))
            )

    kind = draw.choice((deep, many, links, special))
    back = Path.cwd()
    os.chdir(place)
    try:
        kind()
    finally:
        os.chdir(back)


# Prepared folders


def prepared(folder, rows=12, **more):
    """Writes the three files of a prepared folder, with facts of `dataset.json` exchanged."""
    columns = "subject,session,source,plane,index,position_mm,height,width,split,repeat,class,sides"
    lines = [
        f"{columns},age,sex,cdr",
        *(f"P{n},,demo,axial,5,1.0,8,8,,,,,60,F,0" for n in range(rows)),
    ]
    pictures = np.random.default_rng(0).integers(0, 255, (rows, 8, 8)).astype(np.uint8)
    facts = {"source": "demo", "slices": rows, "near_duplicates": [], "sheets": {}} | more
    np.save(folder / "slices.npy", pictures)
    (folder / "slices.csv").write_text("\n".join(lines) + "\n")
    (folder / "dataset.json").write_text(json.dumps(facts))


def changed_prepared(folder, draw):
    prepared(folder)
    name = draw.choice(("slices.npy", "slices.csv", "dataset.json"))
    (folder / name).write_bytes(changed(name, (folder / name).read_bytes(), draw))


def hostile_description(folder, draw):
    pair = {"subjects": ["P1", "P2"], "similarity": 1.0}
    facts = (
        {"source": draw.choice(("/../../escaped", "../escaped", "", "a\nb", "\0", "x" * 10**6))},
        {"source": draw.choice(([], {}, 7, None, "\ud800", "..", "a" * 250))},
        {"slices": draw.choice((10**400, -1, True, "12", 1e300))},
        {
            "near_duplicates": draw.choice(
                (7, {}, [[]], [{}], [pair] * 300_000, "x", [{"subjects": 7}])
            )
        },
        {"near_duplicates": [{"subjects": [f"P{n}", f"P{n + 1}"]} for n in range(300_000)]},
        {"near_duplicates_by": draw.choice((7, [], {"a": 7}, {"a": {}}))},
        {"near_duplicates": [pair], "near_duplicates_by": draw.choice(({"a": {}}, {"a": None}, 7))},
    )
    prepared(folder, **draw.choice(facts))
    if draw.random() < 0.3:
        text = draw.choice(
            ("[" * 10**6, '{"a":' * 10**6, "9" * 10**7, "", "\ufeff", '"' + "\\u0000" * 9)
        )
        (folder / "dataset.json").write_text(text)


def hostile_array(folder, draw):
    prepared(folder)
    content = io.BytesIO()
    kinds = (
        np.array([os.system], dtype=object),
        np.zeros((12, 8, 8), draw.choice(("f8", "S4", "?", "i1", "c8", "M8[s]"))),
        np.zeros(
            draw.choice(((11, 8, 8), (12, 0, 8), (12, 8), (12, 8, 8, 1), (0, 8, 8))), np.uint8
        ),
        np.zeros((12, 1, draw.choice((1, 10**6))), np.uint8),
        np.zeros((12, 1200, 1200), np.uint8),
    )
    np.save(content, draw.choice(kinds), allow_pickle=True)
    data = content.getvalue()
    if draw.random() < 0.5:
        shape = draw.choice(
            ("(99999999999, 9, 9)", "(12, 8, 8", "(-1, 8, 8)", "(12, 2**40, 8)", "()")
        )
        kind = draw.choice(("'|u1'", "'|O'", "'|V99999'", "__import__('os')", "[('a', '|u1')]"))
        header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + bytes(768)
    (folder / "slices.npy").write_bytes(data)


def hostile_table(folder, draw):
    rows = draw.choice((12, 100_000))
    prepared(folder, rows, near_duplicates=draw.choice(([], None)))
    if rows > 12:  # very many tiny slices
        np.save(folder / "slices.npy", np.zeros((rows, *draw.choice(((1, 1), (1, 64)))), np.uint8))
        return
    path = folder / "slices.csv"
    lines = path.read_text().splitlines()
    size = draw.choice((MEGABYTE, 18 * MEGABYTE))
    kinds = (
        lambda: [lines[0] + ",a" * (size // 2), *lines[1:]],
        lambda: [lines[0], "," * size],
        lambda: [lines[0], '"' + "x" * size],
        lambda: [lines[0], *[line.replace("5,1.0", f"{'9' * 5000},1e999") for line in lines[1:]]],
        lambda: [lines[0], *[line.replace("60,", "9" * 5000 + ",") for line in lines[1:]]],
        lambda: [line.replace("P", draw.choice(("\0", "=", "../", "\x1b"))) for line in lines],
        lambda: [lines[0].replace("age", "subject"), *lines[1:]],
        lambda: ["\0" * size],
        lambda: [lines[0], *["P" * (size // 12) + line for line in lines[1:]]],
        lambda: lines + ["\n"] * size,
    )
    path.write_text("\n".join(draw.choice(kinds)())[: LARGEST - 10**5])
    if draw.random() < 0.2:
        path.unlink()
        draw.choice((lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.mkdir))()


KINDS = {
    "shared-strings": shared_strings,
    "cells-of-xlsx": cells_of_xlsx,
    "other-parts": other_parts,
    "many-worksheets": many_worksheets,
    "entities": entities,
    "damaged-xlsx": damaged_xlsx,
    "cells-of-csv": cells_of_csv,
    "odd-sheets": odd_sheets,
    "packed-volumes": packed_volumes,
    "slices-as-volumes": slices_as_volumes,
    "odd-headers": odd_headers,
    "odd-volumes": odd_volumes,
    "packed-pictures": packed_pictures,
    "odd-pictures": odd_pictures,
    "odd-names": odd_names,
    "odd-folders": odd_folders,
    "changed-prepared": changed_prepared,
    "hostile-description": hostile_description,
    "hostile-array": hostile_array,
    "hostile-table": hostile_table,
}


if __name__ == "__main__":
    main()

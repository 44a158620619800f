"""The page of a report: what it says of each number, and how a browser shows it."""

import base64
import copy
import html.parser
import io
import json
import math
import re
import shutil
import subprocess
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oasisvq.evaluation.judge import CAUGHT
from oasisvq.evaluation.measures import MEASURES
from oasisvq.report.page import (
    MEANINGS,
    MOST_TOLD,
    Limit,
    describe_judgement,
    embed,
    format_number,
    place,
    write_page,
)
from support.processes import HANG

ROOT = Path(__file__).resolve().parents[3]
FAILURES = ("mirrored", "two heads glued")
LONG = "x" * 300  # a name without a place to break


def measure(value=0.3, p=0.5, caught=("mirrored",), **others):
    """Returns the entry of a measure in a report: of two planted failures, these are caught."""
    planted = {
        name: {"value": 9.0 if name in caught else 0.2, "p": 0.005 if name in caught else 0.9}
        for name in FAILURES
    }
    missed = [name for name in FAILURES if name not in caught]
    entry = {"value": value, "floor": 0.25, "floor_sd": 0.1, "ratio": value / 0.25, "p": p}
    return {**entry, "spread": None, "planted": planted, "caught": [*caught], "missed": missed} | (
        others
    )


def ages(error, slope):
    return {"error": error, "slope": slope}


JUDGEMENT = {
    "brains": 500,
    "persons": 28,
    "slices": 280,
    "other_persons": 249,
    "measures": {
        "feature_distance": measure(spread=0.07, raw={"new": 0.71, "codes": 0.68}),
        "twins": measure(p=0.004, caught=FAILURES),
        "left_against_right": measure(value=0.55),
        "islands": measure(caught=()),
    },
    "predictions": {
        "age": {
            "on_new": ages(8.5, 0.63),
            "on_real": ages(10.0, 0.6),
            "trained_on_new": ages(11.0, 0.5),
        },
        "sex": {"on_new": 0.7, "on_real": 0.75, "trained_on_new": 0.74},
        "cdr": None,
    },
    "tissue": {
        "bands": [
            {"ages": "0 to 29", "new": 110, "real": 840, "d": 0.15},
            {"ages": "30 to 49", "new": 2, "real": 1, "d": None},
        ],
        "slope_ratio": 0.95,
        "spread_ratio": 0.9,
        "real": {
            "bands": [{"ages": "0 to 29", "d": -0.25}, {"ages": "30 to 49", "d": None}],
            "slope_ratio": 1.2,
            "spread_ratio": None,
        },
    },
    "copies": {
        "copies": 1,
        "half_copies": 2,
        "share": 0.006,
        "false_alarms": 0.004,
        "found": {"mirrored": 1.0, "one half of a head": 0.96},
    },
    "classifier": {"new": {"area": 0.58, "p": 0.02}, "real": {"area": 0.52, "p": 0.4}},
    "membership": 0.953,
}


def interval(mean):
    return {"mean": mean, "low": mean * 0.9, "high": mean * 1.1}


SCORES = {"ssim": interval(0.9731), "psnr": interval(33.3)}
UNKNOWN = {"mean": None, "low": None, "high": None}  # of slices that are too small
RUN = {
    "subjects": 28,
    "slices": 280,
    "reconstruction": {**SCORES, "ms_ssim": UNKNOWN},
    "baselines": {
        "black": {**SCORES, "ms_ssim": UNKNOWN},
        "mean_slice": dict.fromkeys(("ssim", "psnr", "ms_ssim"), interval(0.75)),
    },
    "prior": {
        "bits_per_code": 3.2,
        "bits_per_pixel": 0.189,
        "bits_per_code_uniform": 9.0,
        "bits_per_code_by_position": 5.1,
        "bits_per_code_interval": interval(3.21),
    },
    "codebook": {"size": 512, "usage": 0.998, "perplexity": 211.0, "perplexity_brain": 388.0},
    "judgement": JUDGEMENT,
}


class Outline(html.parser.HTMLParser):
    """What a page consists of: its tags with their attributes, and its text.

    Attributes:
        tags: List of pairs of a name and a dictionary.
        text: What is read, with single blanks.
    """

    ALONE = {"meta", "link", "img"}  # they are not closed
    WITHIN = {"a", "b", "span", "svg"}  # they stand within a sentence

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.inside = [], [], []
        self.feed(source)
        self.close()
        assert not self.inside, f"not closed: {self.inside}"
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside += [tag] * (tag not in self.ALONE)
        self.words += [" "] * (tag not in self.WITHIN)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        self.words += [data] * ("style" not in self.inside)

    def all(self, *names):
        """Returns the attributes of all tags of these names."""
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a page and returns its path."""

    def write_one(report, pictures=None, facts=None, title="A judgement"):
        path = tmp_path / "report.html"
        write_page(path, title, report, pictures or {}, facts or {})
        return path

    return write_one


@pytest.fixture
def read(write):
    """Returns a function that writes a page and returns its `Outline`."""
    return lambda *arguments, **others: Outline(write(*arguments, **others).read_text("utf-8"))


@pytest.fixture
def picture(tmp_path):
    """Returns a function that writes a PNG of about 300 kB, which is like no other."""

    def make(number):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 1000), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", compress_level=0)
        return tmp_path / f"{number}.png"

    return make


def judged(**changes):
    """Returns a report of a folder of brains, with some parts of the judgement changed."""
    return {"judgement": {**copy.deepcopy(JUDGEMENT), **changes}}


def without(*names):
    return {"judgement": {name: part for name, part in JUDGEMENT.items() if name not in names}}


# What it says.


def test_it_says_what_was_judged(read):
    text = read(RUN, facts={"Brains": "of another program"}).text
    assert "500 new brains beside 280 slices of 28 real persons" in text
    assert "249 other real persons" in text
    assert "Reconstructions were scored on 280 slices of 28 persons." in text
    assert "Brains of another program" in text


def test_reconstructions_stand_with_intervals_beside_baselines(read):
    text = read(RUN).text
    assert "SSIM 0.9731 [0.8758, 1.0704] 0.9731 [0.8758, 1.0704] 0.7500 [0.6750, 0.8250]" in text
    assert "PSNR (dB) 33.30 [29.97, 36.63]" in text
    assert "MS-SSIM - - 0.7500" in text
    assert "3.21 [2.89, 3.53] bits per code" in text
    assert "Of 512 codes 99.8% are used" in text


def test_every_measure_has_a_sentence():
    assert MEANINGS.keys() == MEASURES.keys()
    assert all(meaning.endswith(".") for meaning in MEANINGS.values())


def test_a_measure_that_nobody_described_is_shown_all_the_same(read):
    text = read(judged(measures={"wavelets": measure(value=0.123)})).text
    assert "Wavelets" in text
    assert "New brains 0.123" in text


@pytest.mark.parametrize(
    ("p", "sentence"),
    [
        (CAUGHT, "Further than real persons are, p = 0.050."),
        (CAUGHT + 0.01, "As near as other real persons are, p = 0.060."),
    ],
)
def test_p_decides_what_a_measure_says(p, sentence, read):
    text = read(judged(measures={"spectrum": measure(p=p)})).text
    assert sentence in text
    assert ("1 of 1 place the new brains further" in text) == (p <= CAUGHT)


def test_a_measure_stands_beside_its_floor_its_spread_and_raw_slices(read):
    text = read(RUN).text
    assert "New brains 0.300 ± 0.070 over networks Floor 0.250 ± 0.10" in text
    assert "new brains stand at 0.710, other real persons through the codes at 0.680" in text
    assert "over networks" not in read(judged(measures={"spectrum": measure()})).text


def test_other_real_persons_stand_in_the_place_of_the_new_brains(read):
    unchanged = {"value": 0.27, "p": 0.034}
    text = read(judged(measures={"spectrum": measure(unchanged=unchanged)})).text
    assert "Other real persons in the place of the new brains stand at 0.270, p = 0.034." in text
    for nothing in (read(judged(measures={"spectrum": measure(unchanged=None)})), read(RUN)):
        assert "in the place of" not in nothing.text


def test_it_says_what_a_measure_catches_and_what_it_misses(read):
    text = read(RUN).text
    assert "Catches mirrored (9.00). Misses two heads glued (0.200)." in text
    assert "Catches mirrored (9.00), two heads glued (9.00). Misses none." in text


def test_a_failure_that_no_measure_catches_is_named(read):
    text = read(judged(measures={"spectrum": measure(), "ribbon": measure()})).text
    assert "no measure catches two heads glued." in text
    assert "Mirrored spectrum, ribbon" in text
    assert "Two heads glued ✗ not caught" in text
    assert "each of the 2 is caught by at least one measure" in read(RUN).text


def test_blind_measures_stand_apart_without_their_values(read):
    outline = read(judged(measures={"spectrum": measure(), "islands": measure(0.777, caught=())}))
    assert "Blind here: 1 measure " in outline.text
    assert "Islands. Small pieces of white matter" in outline.text
    assert "0.777" not in outline.text
    assert len(outline.all("article")) == 1
    assert "0 of 1 place the new brains further" in outline.text


def test_a_blind_measure_that_tells_new_brains_is_not_hidden(read):
    text = read(judged(measures={"islands": measure(p=0.01, caught=())})).text
    assert "Yet the new brains are further than real persons are, p = 0.010." in text
    assert "; of the blind ones also islands." in text
    assert "✓" not in text.split("Measures")[0]  # nothing was seen that could be good


@pytest.mark.parametrize(("area", "kept"), [(MOST_TOLD, "kept"), (0.601, "exceeded")])
def test_areas_of_linear_classifiers_have_a_limit(area, kept, read):
    text = read(judged(measures={"left_against_right": measure(value=area)})).text
    assert f"Its limit, at most 0.6, is {kept}." in text
    assert "Its limit" not in read(judged(measures={"ribbon": measure()})).text


def changed(path, value):
    """Returns the judgement with one number changed, at a path such as `"copies.share"`."""
    judgement = copy.deepcopy(JUDGEMENT)
    *parents, last = path.split(".")
    part = judgement
    for name in parents:
        part = part[name] if isinstance(part, dict) else part[int(name)]
    part[last] = value
    return judgement


@pytest.mark.parametrize(
    ("section", "row", "path", "good", "bad"),
    [
        ("tissue", 0, "tissue.bands.0.d", 0.2, 0.201),
        ("tissue", 0, "tissue.bands.0.d", -0.2, -0.201),
        ("tissue", -2, "tissue.slope_ratio", 0.9, 0.899),
        ("tissue", -2, "tissue.slope_ratio", 1.1, 1.101),
        ("tissue", -1, "tissue.spread_ratio", 0.8, 0.799),
        ("tissue", -1, "tissue.spread_ratio", 1.25, 1.251),
        ("predictions", 0, "predictions.age.on_new.slope", 0.541, 0.539),
        ("predictions", 0, "predictions.age.on_new.slope", 0.659, 0.661),
        ("predictions", 1, "predictions.age.trained_on_new.error", 11.5, 11.51),
        ("predictions", 2, "predictions.sex.trained_on_new", 0.713, 0.712),
        ("classifier", 0, "classifier.new.area", 0.6, 0.601),
        ("copies", 0, "copies.false_alarms", 0.01, 0.0101),
        ("copies", 2, "copies.found.one half of a head", 0.95, 0.949),
    ],
)
def test_a_limit_is_kept_up_to_its_end(section, row, path, good, bad):
    assert describe_judgement(changed(path, good))[section][row].kept is True
    assert describe_judgement(changed(path, bad))[section][row].kept is False


@pytest.mark.parametrize("value", [None, math.nan])
def test_what_is_not_known_is_neither_kept_nor_missed(value, read):
    assert Limit("what", value, most=1).kept is None
    text = read({"judgement": changed("tissue.bands.0.d", value)}).text
    assert "110 new and 840 real slices; of real persons beside others: −0.250 – −0.2 to" in text
    assert "2 of 2 limits kept" in text  # of those that are known


def test_real_persons_stand_beside_the_limits_of_tissue():
    notes = [limit.note for limit in describe_judgement(JUDGEMENT)["tissue"]]
    of_real = [note.split("of real persons beside others: ")[1] for note in notes]
    assert of_real == ["\N{MINUS SIGN}0.250", "not known", "1.20", "not known"]
    unknown = describe_judgement(changed("tissue.real", None))["tissue"]
    assert all(limit.note.endswith("others: not known") for limit in unknown)


def test_limits_are_told_in_words():
    assert Limit("what", 1, most=0.6).text == "at most 0.6"
    assert Limit("what", 1, 95, unit="%").text == "at least 95%"
    assert Limit("what", 1, -0.2, 0.2).text == "−0.2 to 0.2"


def test_a_predictor_that_never_errs_on_real_persons_sets_no_limit():
    judgement = changed("predictions.sex.on_real", 1.0)
    assert describe_judgement(judgement)["predictions"][2].kept is None


def test_the_verdict_on_copies_stands_beside_what_the_test_can_find(read):
    text = read(RUN).text
    assert "1 of 500 new brains are taken for copies of a training slice, and 2 for" in text
    assert "At the test's rate of false alarms, 2.0 would be by chance." in text
    assert "Found: one half of a head 96.0% at least 95% ✓ within" in text
    assert "not to be relied on" not in text
    text = read({"judgement": changed("copies.found.one half of a head", 0.5)}).text
    assert "Found: one half of a head 50.0% at least 95% ✗ outside" in text
    assert "not to be relied on for some kinds of copies" in text


@pytest.mark.parametrize(("brains", "warned"), [(499, True), (500, False)])
def test_few_brains_are_said_to_be_few(brains, warned, read):
    assert ("Fewer than 500 new brains" in read(judged(brains=brains)).text) == warned


# What is not there.


@pytest.mark.parametrize(
    ("left_out", "sentence"),
    [
        ("classifier", "A small network was trained"),
        ("tissue", "Cohen's d"),
        ("predictions", "dementia rating"),
        ("copies", "taken for copies"),
        ("membership", "Membership"),
    ],
)
def test_a_part_that_is_not_in_the_report_is_not_on_the_page(left_out, sentence, read):
    assert sentence in read(RUN).text
    assert sentence not in read(without(left_out)).text
    assert sentence not in read(judged(**{left_out: None})).text


def test_what_is_known_of_too_few_is_said(read):
    assert "CDR Known of too few brains. –" in read(RUN).text


def test_brains_without_a_run_have_no_reconstructions(read):
    assert "Reconstructions" not in read(judged()).text


def test_a_reason_takes_the_place_of_a_judgement(read):
    reason = {"reason": "needs slices of 5 persons or more"}
    text = read({**RUN, "judgement": reason}).text
    assert "New brains were not judged: needs slices of 5 persons or more. " in text
    assert "SSIM 0.9731" in text
    assert "At a glance" not in text
    assert "Its floor" not in text


def test_a_run_whose_brains_were_not_drawn_has_no_judgement(read):
    text = read({name: part for name, part in RUN.items() if name != "judgement"}).text
    assert "SSIM 0.9731" in text
    assert "judged" not in text


def test_a_picture_that_is_not_there_is_told(read, tmp_path):
    outline = read(RUN, {"Curves": tmp_path / "none.png"})
    assert "The file of this picture is missing. Curves" in outline.text
    assert not outline.all("img")


# How it is written.


def test_names_are_text_wherever_they_stand(read):
    name = '"><script>alert(1)</script>&amp;'
    measures = {name: measure(caught=(name,), missed=[name])}
    measures[name]["planted"] = {name: {"value": 9.0, "p": 0.005}}
    judgement = {
        **JUDGEMENT,
        "measures": measures,
        "predictions": {name: None},
        "copies": {**JUDGEMENT["copies"], "found": {name: 1.0}},
        "tissue": {**JUDGEMENT["tissue"], "bands": [{**JUDGEMENT["tissue"]["bands"][0]}]},
    }
    judgement["tissue"]["bands"][0]["ages"] = name
    outline = read(
        {"judgement": judgement}, pictures={name: Path(name)}, facts={name: name}, title=name
    )
    assert not outline.all("script")
    assert outline.text.count("<script>alert(1)</script>&amp;") >= 10
    reason = {"reason": name}
    assert not read({"judgement": reason}).all("script")


def test_each_picture_is_embedded_once_and_six_stay_below_3_megabytes(write, picture):
    pictures = {f"Picture {number}": picture(number) for number in range(6)}
    assert min(path.stat().st_size for path in pictures.values()) > 300_000
    page = write(RUN, pictures)
    assert page.stat().st_size < 3_000_000
    source = page.read_text("utf-8")
    for path in pictures.values():
        assert source.count(base64.b64encode(path.read_bytes()).decode()) == 1


def test_an_embedded_picture_is_the_file(picture):
    kind, _, content = embed(picture(0)).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == picture(0).read_bytes()


def test_it_can_be_read_aloud(read, picture):
    outline = read(RUN, {"New brains": picture(0)})
    assert outline.all("html") == [{"lang": "en"}]
    names = [tag for tag, _ in outline.tags]
    for landmark in ("h1", "header", "main", "nav", "footer"):
        assert names.count(landmark) == 1, landmark
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert [image["alt"] for image in outline.all("img")] == ["New brains"]
    assert all(cell.get("scope") in ("col", "row") for cell in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table")) == 6
    for drawing in outline.all("svg"):
        assert "aria-hidden" in drawing or drawing["aria-label"].startswith("New brains 0.")


def test_each_link_leads_to_a_place_on_the_page(read):
    outline = read(RUN)
    places = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(places) == len(set(places))
    links = {attributes["href"] for attributes in outline.all("a")}
    assert {"#measures", "#power", "#copies", "#twins"} <= links
    assert links <= {f"#{name}" for name in places}


def luminance(colour):
    """Returns the relative luminance of a colour such as `"#1b2430"`, as WCAG 2 defines it."""
    digits = colour.lstrip("#")
    pairs = [digits[n : n + 2] for n in (0, 2, 4)] if len(digits) == 6 else [d * 2 for d in digits]
    parts = [int(pair, 16) / 255 for pair in pairs]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme):
    source = resources.files("oasisvq.report").joinpath("page.html").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", source, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): (#\w+);", block))
    for text in ("ink", "quiet", "good", "bad", "new"):
        for ground in ("paper", "soft"):
            low, high = sorted(luminance(colours[name]) for name in (text, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_a_drawing_grows_from_left_to_right_and_ends_within_itself():
    places = [place(x) for x in (-math.inf, -3, -1, 0, 1, 2, 10, 100, 300, math.inf)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (places[1], places[-2]) == (2, 98)
    assert place(math.nan) == 2


def test_a_floor_without_spread_has_a_drawing(read):
    circle = read(judged(measures={"twins": measure(value=0.4, floor_sd=0.0)})).all("circle")[-1]
    assert circle["cx"] == "98.0%"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (0.6, "0.600"),
        (-0.0421, "−0.0421"),
        (100.0, "100"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert format_number(value) == text


def test_the_installed_package_holds_the_template():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    others = {
        path.name
        for path in (ROOT / "oasisvq" / "report").iterdir()
        if path.is_file() and path.suffix != ".py"
    }
    assert others == set(settings["package-data"]["oasisvq.report"])


# How a browser shows it.

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
PHONE, DESK, PAPER = 360, 1200, 718  # pixels
FONT = "<style>@font-face { font-family: f; src: url(f.woff) } h1 { font-family: f }</style>"


class Browser:
    """A Chromium without a window, which is told what to do through pipes.

    Reference:

    - [Chrome DevTools Protocol](https://chromedevtools.github.io/devtools-protocol/)
    """

    def __init__(self, folder):
        # It reads from file 3 and writes to file 4.
        command = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1', CHROMIUM, *FLAGS]
        command += ["--remote-debugging-pipe", f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.number, self.rest, self.events, self.session = 0, b"", [], {}
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **arguments):
        """Sends a command and returns its result; what happens in the meantime are events."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": arguments, **self.session}
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while (answer := self._read()).get("id") != self.number:
            self.events.append(answer)
        assert "result" in answer, answer
        return answer["result"]

    def _read(self):
        parts = [self.rest]
        while b"\0" not in parts[-1]:
            parts.append(self.process.stdout.read1(2**20))
            assert parts[-1], f"{CHROMIUM} ended"
        message, _, self.rest = b"".join(parts).partition(b"\0")
        return json.loads(message)

    def open(self, path, width=PHONE, scheme="light", media="screen"):
        """Opens a file, and waits until all that it shows is loaded."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression):
        """Returns the value of an expression on the page."""
        return self.send("Runtime.evaluate", expression=expression)["result"]["value"]

    def problems(self, path, width=PHONE):
        """Opens a page and returns what it should not do, a sentence each."""
        self.open(path, width)
        wide = self.value("document.documentElement.scrollWidth")
        problems = [f"{wide} pixels wide on {width}"] if wide > width else []
        for event in self.events:
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                if url != path.as_uri() and not url.startswith("data:"):
                    problems.append(f"asks for {url}")
            elif event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                problems.append(f"console: {event['params']}")
            elif event["method"] == "Log.entryAdded":
                problems.append(f"log: {event['params']['entry']['text']}")
        return problems

    def screenshot(self, path):
        """Writes the whole page as a PNG, and returns its pixels."""
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))
        return np.array(Image.open(io.BytesIO(path.read_bytes())).convert("L"))

    def close(self):
        """Ends the browser."""
        self.session = {}
        self.send("Browser.close")
        self.process.stdin.close()
        self.process.wait(timeout=HANG)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Returns a running Chromium, and skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.fixture
def whole_page(write, picture):
    """Returns a page with everything, and with long names and a wide picture."""
    pictures = {"New brains": picture(0), LONG: picture(1)}
    facts = {"Folder": f"/{LONG}", LONG: "a fact"}
    return write(RUN, pictures, facts, title=f"A judgement of {LONG}")


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_browser_has_nothing_to_complain_of(width, browser, whole_page):
    assert browser.problems(whole_page, width) == []


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ('<script>console.error("planted")</script>', "console: "),
        ('<script>throw new Error("planted")</script>', "console: "),
        ('<svg><circle cx="nan%"/></svg>', "log: "),
        ('<img src="http://127.0.0.1:9/planted.png" alt="">', "asks for http://127.0.0.1:9/plan"),
        ('<link rel="stylesheet" href="planted.css">', "asks for file:///"),
        (FONT, "asks for file:///"),
        ('<div style="width: 500px">planted</div>', "wide on 360"),
    ],
)
def test_a_planted_fault_is_found(fault, found, browser, whole_page):
    faulty = whole_page.with_name("faulty.html")
    faulty.write_text(whole_page.read_text("utf-8").replace("</main>", f"{fault}</main>"), "utf-8")
    assert any(problem.count(found) for problem in browser.problems(faulty))


def test_it_is_light_or_dark_as_the_reader_likes_and_light_on_paper(browser, whole_page, tmp_path):
    for scheme, media, light in (
        ("light", "screen", True),
        ("dark", "screen", False),
        ("dark", "print", True),
    ):
        browser.open(whole_page, DESK, scheme, media)
        pixels = browser.screenshot(tmp_path / f"{scheme}_{media}.png")
        assert pixels.shape[1] == DESK
        ground = np.bincount(pixels[:800].ravel()).argmax()
        assert ground > 240 if light else ground < 40
        # Something is written on it that stands out.
        assert (
            abs(int(pixels[:800, :600].min() if light else pixels[:800, :600].max()) - ground) > 150
        )


def test_no_table_is_cut_off_on_paper(browser, whole_page):
    browser.open(whole_page, PAPER, media="print")
    assert browser.value("document.documentElement.scrollWidth") <= PAPER


def test_tables_that_are_too_wide_scroll_in_their_own_box(browser, whole_page):
    browser.open(whole_page)
    boxes = "[...document.querySelectorAll('.wide')]"
    assert browser.value(f"{boxes}.filter(one => one.scrollWidth > one.clientWidth).length") > 0
    assert browser.value(f"{boxes}.every(one => one.clientWidth <= {PHONE} && one.tabIndex == 0)")

"""What an overlay says of itself: the band under the picture, and the same facts inside the file."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worker.explain.decision import FINDING_FROM
from worker.score_words import score_and_threshold

NOT_FOR_DIAGNOSIS = "not for diagnosis"
# A band is at least so wide, pixels, however narrow the picture: narrower lines cannot be read.
LEAST_WIDTH = 200
_LEAST_FONT = 11
_INK, _GROUND = 235, 16
# Words in letters of up to so many pixels are kept: 4096 of some 5 kB.
_LARGE_LETTERS = 40

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class MapFacts:
    """One map: its `label` (layer, method and, where every class is explained, the class), the `maximum` of
    the heatmap before scaling, and the `scale` at which colours end, None where the version has none."""

    label: str
    maximum: float
    scale: float | None


@dataclass(frozen=True)
class OverlayFacts:
    """What a caption tells. `score` and `threshold` run from 0 to 100; None is left out. `findings`: of a
    model whose classes do not exclude each other, all with their probabilities, the highest first."""

    predicted: str
    probability: float | None
    target: str
    model_version: str
    maps: tuple[MapFacts, ...]
    scale: str = "version"
    positive_class: str | None = None
    positive_probability: float | None = None
    score: float | None = None
    threshold: float | None = None
    decision: str | None = None
    odd: str | None = None
    outlines: bool = False
    findings: tuple[tuple[str, float], ...] = ()
    notice: str = field(default=NOT_FOR_DIAGNOSIS, init=False)

    def strengths(self) -> dict[str, float]:
        """By label, what a heatmap in 0..1 is multiplied by, so that 1 is the scale; 1.0 for its own."""
        return {
            one.label: one.maximum / one.scale if self.scale == "version" and one.scale else 1.0
            for one in self.maps
        }

    def verdict(self) -> list[str]:
        """The lines that differ from image to image."""
        lines = self._findings() if self.findings else [_stated(self.predicted, self.probability)]
        told = {name for name, value in self.findings if value >= FINDING_FROM} or {self.predicted}
        score, threshold = score_and_threshold(self.score, self.threshold)
        if score:
            lines.append(f"score of {self.positive_class or 'the positive class'}: {score} of 100")
        elif self.positive_probability is not None and self.positive_class not in told:
            lines.append(_stated(str(self.positive_class), self.positive_probability))
        if self.decision:
            limit = f" (threshold {threshold})" if threshold else ""
            lines.append(f"decision: {self.decision}{limit}")
        elif threshold:
            lines.append(f"threshold: {threshold}")
        if self.odd:
            lines.append(f"odd: {self.odd.replace(',', ', ')}")
        blank = [one.label for one in self.maps if one.maximum <= 0]
        if blank:
            said = ", ".join(label.removeprefix(self._shared_words()) for label in blank)
            lines.append("blank map" if len(self.maps) == 1 else f"blank: {said}")
        own = [one for one in self.maps if not self._is_of_version(one)]
        if len(self.maps) == 1 and own:
            lines.append(f"colours end at this image's own maximum, {own[0].maximum:.3g}")
        elif len(self.maps) == 1 and self.maps[0].maximum > 0 and self.maps[0].scale:
            # How hot a map gets and how sure the model is are two things: a sure one may be cold.
            share = self.maps[0].maximum / self.maps[0].scale
            lines.append(f"hottest: {self.maps[0].maximum:.3g}, {share:.0%} of the scale")
        return lines

    def _shared_words(self) -> str:
        """The first words of all labels, with the space behind them: the layer and the method, where only the
        classes differ. Empty for one map."""
        words = [one.label.split(" ") for one in self.maps]
        if len(words) < 2:
            return ""
        shared = list(itertools.takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False)))
        return "".join(f"{same[0]} " for same in shared[: min(map(len, words)) - 1])

    def origin(self) -> list[str]:
        """The lines that are the same for all images of a run explained for one class."""
        labels = [one.label for one in self.maps]
        shared = self._shared_words().strip()
        several = f"{len(labels)} maps, {shared}" if shared else f"{len(labels)} maps"
        what = labels[0] if len(labels) == 1 else several
        lines = [f"map of {self.target}: {what}", f"model {self.model_version}"]
        own = sum(not self._is_of_version(one) for one in self.maps)
        if own == len(labels):
            why = "" if self.scale == "image" else " (the model version has none)"
            lines.append(f"scale: each image's own{why}")
        elif own:
            lines.append(f"scale: of the model version, of {own} maps each image's own")
        else:
            lines.append("scale: of the model version")
        if self.outlines:
            lines.append("outlines: marked areas")
        return [*lines, self.notice]

    def ticks(self) -> tuple[str, str, str]:
        """What stands below the colour bar: at its left end, middle and right end."""
        if len(self.maps) == 1 and self._is_of_version(self.maps[0]):
            end = self.maps[0].scale or 0.0
            return "0", f"{end / 2:.3g}", f"{end:.3g}"
        return "0", "50%", "100%"

    def text(self) -> str:
        """The caption on one line."""
        return "; ".join((*self.verdict(), *self.origin()))

    def as_json(self) -> str:
        """All facts as a JSON object, ASCII."""
        return json.dumps(asdict(self), allow_nan=False)

    def _findings(self) -> list[str]:
        seen = [_stated(name, value) for name, value in self.findings if value >= FINDING_FROM]
        name, highest = self.findings[0]
        below = math.floor(highest * 1000) / 1000  # not rounded up to what it does not reach
        return seen or [f"no finding at {FINDING_FROM:g} or more; the highest, {name}: {below:.3f}"]

    def _is_of_version(self, one: MapFacts) -> bool:
        return self.scale == "version" and one.scale is not None


def _stated(name: str, probability: float | None) -> str:
    return name if probability is None else f"{name}: probability {probability:.3f}"


def findings_by_probability(model: Any, probabilities: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Of a model (ModelMetadata) of findings all `probabilities`, the highest first; of another none."""
    if not model.has_findings:
        return ()
    return tuple(sorted(probabilities.items(), key=lambda pair: (-pair[1], pair[0])))


def map_facts(
    labels: Sequence[str], maxima: Mapping[str, float], scales: Mapping[str, float]
) -> tuple[MapFacts, ...]:
    """`maxima` as for `maximum_of`; `scales` by layer and method."""
    found = []
    for label in labels:
        layer, method, *_ = label.split(" ", 2)
        found.append(MapFacts(label, maximum_of(label, maxima) or 0.0, scales.get(f"{layer} {method}")))
    return tuple(found)


def maximum_of(label: str, maxima: Mapping[str, float]) -> float | None:
    """The maximum of the map of this label before scaling, None if it is not there. `maxima` are by the
    explainer's names, which leave the method out where there is but one."""
    layer, *rest = label.split(" ", 2)
    found = maxima.get(label, maxima.get(" ".join((layer, *rest[1:]))))
    return None if found is None else float(found)


def facts_of_row(row: Mapping[str, Any], labels: Sequence[str], model: Any, options: Any) -> OverlayFacts:
    """The facts of a result as the ledger holds it, equal to those its overlay was drawn with.

    `row`: columns of `results`; `model`: its ModelMetadata; `options`: the run's ExplainOptions.
    """
    positive = model.positive_class
    every_class = len(str(row["target_class"]).split(",")) > 1 and options.every_class
    return OverlayFacts(
        predicted=row["class"],
        probability=row["probability"],
        target="every class" if every_class else row["target_class"],
        model_version=row["model_version"],
        maps=map_facts(labels, row["heatmap_max"] or {}, model.heat_scales),
        scale=options.scale,
        positive_class=positive,
        positive_probability=None if positive is None else (row["probabilities"] or {}).get(positive),
        findings=findings_by_probability(model, row["probabilities"] or {}),
        score=row.get("score"),
        threshold=row.get("threshold"),
        decision=row.get("decision"),
        odd=row.get("odd"),
        outlines=options.outlines,
    )


@lru_cache(maxsize=64)
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


# Words recur from image to image, and drawing one takes longer than all else in a caption.
@lru_cache(maxsize=4096)
def _word(text: str, letters: int) -> tuple[Image.Image | None, int]:
    """`text` as mode L, letters white, None for large ones, which are few; and how wide it is, pixels."""
    font = _font(letters)
    width = math.ceil(font.getlength(text))
    if letters > _LARGE_LETTERS:
        return None, width
    drawn = Image.new("L", (max(width, 1), round(letters * 1.3)), _GROUND)
    ImageDraw.Draw(drawn).text((0, 0), text, fill=_INK, font=font)
    return drawn, width


def band(facts: OverlayFacts, size: tuple[int, int], table: np.ndarray[Any, Any]) -> Image.Image:
    """The caption under a picture of `size` (width, height), RGB: as wide as that, or wider where a word or
    LEAST_WIDTH asks for it. `table` holds the colours, uint8 (256, 3).

    Its letters grow with the picture. Lines are wrapped between words; no word is cut.
    """
    letters = max(_LEAST_FONT, round(min(size[0], 1.5 * size[1]) / 42))
    verdict, origin = facts.verdict(), facts.origin()
    width = max(size[0], LEAST_WIDTH, _widest_word((*verdict, *origin), letters) + 2 * (letters // 2))
    above = _lines(tuple(verdict), width, letters)
    below = _static(tuple(origin), facts.ticks(), width, letters, table.tobytes())
    whole = Image.new("RGB", (width, above.height + below.height))
    whole.paste(above, (0, 0))
    whole.paste(below, (0, above.height))
    return whole


def _widest_word(lines: Sequence[str], letters: int) -> int:
    return max(_word(word, letters)[1] for line in lines for word in line.split(" "))


def _lines(lines: tuple[str, ...], width: int, letters: int) -> Image.Image:
    """`lines` run on, a gap between them, as mode L of this width."""
    pad = letters // 2
    step = round(letters * 1.3)
    places, rows = _placed(lines, width - 2 * pad, letters)
    strip = Image.new("L", (width, pad + step * rows), _GROUND)
    draw = ImageDraw.Draw(strip)
    for word, left, row in places:
        drawn, _ = _word(word, letters)
        place = (pad + left, pad + step * row)
        if drawn is None:
            draw.text(place, word, fill=_INK, font=_font(letters))
        else:
            strip.paste(drawn, place)
    return strip


def _placed(lines: Sequence[str], width: int, letters: int) -> tuple[list[tuple[str, int, int]], int]:
    """Words with their left edge, pixels, and row; and the number of rows, none wider than `width`.

    Lines stand beside each other while they fit whole, and are broken between words alone.
    """
    space = max(2, round(letters * 0.28))
    places: list[tuple[str, int, int]] = []
    left, row = 0, 0
    for line in lines:
        words = [(word, _word(word, letters)[1]) for word in line.split(" ")]
        length = sum(across for _, across in words) + space * (len(words) - 1)
        if left:
            left += 3 * space
            if left + length > width:
                left, row = 0, row + 1
        for word, across in words:
            if left and left + across > width:
                left, row = 0, row + 1
            places.append((word, left, row))
            left += across + space
        left -= space
    return places, row + 1


# Runs have pictures of few sizes: what is the same for all is drawn once. 64 strips of at most 1 MB.
_KEPT_BYTES = 1_000_000


def _static(
    origin: tuple[str, ...], ticks: tuple[str, str, str], width: int, letters: int, colours: bytes
) -> Image.Image:
    if width * letters * 30 > _KEPT_BYTES:
        return _static_drawn(origin, ticks, width, letters, colours)
    return _static_kept(origin, ticks, width, letters, colours)


def _static_drawn(
    origin: tuple[str, ...], ticks: tuple[str, str, str], width: int, letters: int, colours: bytes
) -> Image.Image:
    pad, font = letters // 2, _font(letters)
    text = _lines(origin, width, letters)
    step = round(letters * 1.3)
    strip = Image.new("RGB", (width, pad + letters + step + text.height + pad), (_GROUND,) * 3)
    ramp = Image.frombytes("RGB", (256, 1), colours)
    strip.paste(ramp.resize((width - 2 * pad, letters), Image.Resampling.BILINEAR), (pad, pad))
    draw = ImageDraw.Draw(strip)
    for place, tick in zip((pad, width / 2, width - pad), ticks, strict=True):
        across = font.getlength(tick)
        left = min(max(place - across / 2, pad), width - pad - across)
        draw.text((left, pad + letters + 1), tick, fill=(_INK,) * 3, font=font)
    strip.paste(text, (0, pad + letters + step))
    return strip


_static_kept = lru_cache(maxsize=64)(_static_drawn)

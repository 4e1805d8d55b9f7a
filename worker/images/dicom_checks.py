"""Whether a DICOM file is a frontal radiograph of the chest, by what its header says."""

from __future__ import annotations

from worker.errors import ImageError
from worker.images import dicom_vocabulary as vocabulary
from worker.images.dicom_header import DIRECTORY, Elements, Header, name_of_uid

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_FOR_PROCESSING = _STORAGE + "1.1.1"
# Computed and digital radiography, secondary captures (a film that was scanned) and film images.
_RADIOGRAPHS = {_STORAGE + number for number in ("1", "1.1", "1.1.1", "7", "7.1", "7.2", "7.3", "7.4")} | {
    "1.2.840.10008.5.1.1.29",
    "1.2.840.10008.5.1.1.30",
}
_STANDARD = "1.2.840.10008."
_MODALITIES = {"CR", "DX", "DR", "RG", "XR", "OT", "SC", "HC"}
_OTHER_MODALITIES = {
    "CT": "computed tomography",
    "MR": "magnetic resonance",
    "US": "ultrasound",
    "MG": "mammography",
    "NM": "nuclear medicine",
    "PT": "positron emission tomography",
    "XA": "angiography",
    "RF": "fluoroscopy",
    "IO": "an intra-oral radiograph",
    "PX": "a panoramic radiograph of teeth",
    "SR": "a structured report",
    "PR": "a presentation state",
    "KO": "a selection of key objects",
    "DOC": "a document",
    "SEG": "a segmentation",
    "REG": "a registration",
    "ECG": "a waveform",
    "XC": "a photograph",
    "ES": "endoscopy",
    "GM": "microscopy",
    "SM": "microscopy",
    "OP": "ophthalmic photography",
    "OCT": "optical coherence tomography",
    "BMD": "bone densitometry",
    "RTIMAGE": "a radiotherapy image",
    "RTSTRUCT": "radiotherapy structures",
    "RTPLAN": "a radiotherapy plan",
    "RTDOSE": "a radiotherapy dose",
}
# What our own captures name as their maker.
OUR_MANUFACTURER = "xraycam"
_ACCEPT = "accept {word} to read it all the same"


def require_frontal_chest(header: Header, shown: str, accept: frozenset[str]) -> str | None:
    """The view that the header names, of `DicomFacts.view`, None where it names none.

    Raises ImageError `not-radiograph`, `not-chest`, `not-frontal`, `for-processing`, `multi-frame`,
    `truncated` or `no-pixels`, in that order. `accept`: see `dicom.ACCEPTABLE`. What the header leaves out
    is not held against the file; a body part that it names in unknown words is.
    """
    elements = header.elements
    _require_radiograph(header, shown)
    if "any-body-part" not in accept:
        _require_chest(elements, shown)
    view = view_of(elements)
    if view in ("lateral", "oblique", "decubitus", "other") and "any-view" not in accept:
        word = "lateral" if view == "lateral" else "any-view"
        if word not in accept:
            kind = {"lateral": "a lateral", "oblique": "an oblique", "decubitus": "a decubitus"}.get(
                view, "no frontal"
            )
            raise ImageError(
                "not-frontal", f"{shown} is labelled as {kind} view; {_ACCEPT.format(word=word)}"
            )
    intent = elements.text("PresentationIntentType").upper()
    is_raw = header.sop_class == _FOR_PROCESSING or "PROCESSING" in intent
    if is_raw and "for-processing" not in accept:
        raise ImageError(
            "for-processing",
            f"{shown} holds raw detector data (FOR PROCESSING); send the FOR PRESENTATION image instead, "
            f"or {_ACCEPT.format(word='for-processing')}",
        )
    frames = elements.integer("NumberOfFrames") or 1
    if frames > 1 and "multi-frame" not in accept:
        raise ImageError(
            "multi-frame",
            f"{shown} has {frames:,} frames; export the one to be explained, "
            "or accept multi-frame to read the first",
        )
    if header.pixel_start is None:
        if header.is_cut:
            raise ImageError("truncated", f"{shown} is DICOM cut short in its header; copy it again")
        raise ImageError("no-pixels", f"{shown} holds a header without pixel data; export it with its pixels")
    return view


def view_of(elements: Elements) -> str | None:
    """The view by ViewPosition, ViewCodeSequence and PatientOrientation; of several one that is not frontal,
    or else the most precise."""
    found = {_view_in_words(elements, "ViewPosition")}
    for item in elements.items("ViewCodeSequence"):
        code = _code(item)
        by_code = {view for view, codes in vocabulary.VIEW_CODES.items() if code in codes}
        found |= by_code or {_view_in_words(item, "CodeMeaning")}
    directions = {text[:1].upper() for text in elements.texts("PatientOrientation")[:2]}
    if directions & {"A", "P"}:  # rows or columns run from front to back
        found.add("other" if directions & {"L", "R"} else "lateral")
    order = ("decubitus", "oblique", "lateral", "other", "PA", "AP", "frontal")
    return next((view for view in order if view in found), None)


def _require_radiograph(header: Header, shown: str) -> None:
    if header.sop_class == DIRECTORY or "DirectoryRecordSequence" in header.elements:
        raise ImageError(
            "not-radiograph",
            f"{shown} is the index of a DICOM medium; enqueue its folder, which reads the files it lists",
        )
    if header.elements.text("Manufacturer") == OUR_MANUFACTURER:
        raise ImageError("not-radiograph", f"{shown} is a result of xraycam; enqueue the image it is of")
    if header.sop_class.startswith(_STANDARD) and header.sop_class not in _RADIOGRAPHS:
        kind = name_of_uid(header.sop_class)
        raise ImageError("not-radiograph", f"{shown} is no radiograph, it is of the class {kind}")
    modality = header.elements.text("Modality").upper()
    if modality and modality not in _MODALITIES:
        kind = _OTHER_MODALITIES.get(modality, "another modality")
        raise ImageError("not-radiograph", f"{shown} is no radiograph, its header says {kind}")


def _require_chest(elements: Elements, shown: str) -> None:
    named = [_part_in_words(elements, "BodyPartExamined")]
    for keyword in ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence"):
        for item in elements.items(keyword):
            code = _code(item)
            if code in vocabulary.CHEST_CODES:
                named.append("chest")
            elif code not in vocabulary.NO_PART_CODES:
                meaning = _part_in_words(item, "CodeMeaning")
                named.append(meaning or ("another part" if code else ""))
    others = [part for part in named if part not in ("", "chest")]
    if others:
        part = others[0]
        what = "a part of the body that is not known as the chest" if part == "another part" else part
        raise ImageError(
            "not-chest",
            f"{shown} is no chest radiograph, its header names {what}; "
            + _ACCEPT.format(word="any-body-part"),
        )


def _part_in_words(elements: Elements, keyword: str) -> str:
    """`chest`, a name of OTHER_PARTS, `another part`, or `` where nothing is said."""
    readings = [vocabulary.normalized(text) for text in elements.readings(keyword)]
    if all(not text or text in vocabulary.NO_PART for text in readings):
        return ""
    if any(vocabulary.mentions(text, vocabulary.NOT_CHEST_THOUGH_NAMED) for text in readings):
        return "the spine, ribs, sternum or breast"
    if any(vocabulary.mentions(text, vocabulary.CHEST) for text in readings):
        return "chest"
    for part, words in vocabulary.OTHER_PARTS.items():
        if any(vocabulary.mentions(text, words) for text in readings):
            return part
    return "another part"


def _view_in_words(elements: Elements, keyword: str) -> str | None:
    for reading in elements.readings(keyword):
        text = vocabulary.normalized(reading).replace("bilateral", "")
        for view, words in vocabulary.VIEW_WORDS.items():
            if vocabulary.mentions(text, words):
                return _projection(text) if view == "frontal" else view
    return None


def _projection(text: str) -> str:
    words = set(text.split())
    if "pa" in words or "p a" in text or ("postero" in text and text.find("postero") < text.find("ant")):
        return "PA"
    if "ap" in words or "a p" in text or ("ant" in text and "post" in text):
        return "AP"
    return "frontal"


def _code(item: Elements) -> str:
    return item.text("CodeValue") or item.text("LongCodeValue")

"""A version knows which images it was trained on, and measuring it on them says so."""

from __future__ import annotations

import hashlib

from worker.train.held_out import pack_digests, trained_on


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_images_of_a_training_are_known_again() -> None:
    record = {"training_images": pack_digests(digest(f"image {number}") for number in range(500))}
    assert len(str(record["training_images"])) == 500 * 8
    asked = [digest("image 3"), digest("image 499"), digest("image 500"), digest("another")]
    assert trained_on(record, asked) == [True, True, False, False]
    assert trained_on({}, asked) is None

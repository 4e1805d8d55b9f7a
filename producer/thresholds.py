"""Which threshold a run decides by: that of a site for its version, that of the version, or a given one."""

from __future__ import annotations

from db.ledger import Ledger
from db.operating_points import site_threshold, versions_of_site
from worker.errors import XraycamError
from worker.explain.options import ExplainOptions
from worker.model.metadata import ModelMetadata


def with_threshold(
    ledger: Ledger, options: ExplainOptions, operating_point: str | None, model: ModelMetadata
) -> ExplainOptions:
    """The options, with the threshold of the site or the operating point that is asked for.

    Raises XraycamError where the model, or the site for this model, has none.
    """
    site = options.site
    given = {"--site": site, "--threshold": options.threshold, "--operating-point": operating_point}
    asked = [option for option, value in given.items() if value is not None]
    if not asked:
        return options
    if len(asked) > 1:
        raise XraycamError(f"{' and '.join(asked)}: each sets the threshold; give one of them")
    if model.positive_class is None:
        raise XraycamError(
            f"{asked[0]}: model {model.version} has no positive class, and so no score to decide by; train "
            "one with --positive CLASS"
        )
    if operating_point is not None:
        threshold = model.require_operating_point(operating_point).threshold
        return options.model_copy(update={"threshold": threshold})
    if site is None:
        return options
    with ledger.read() as connection:
        found = site_threshold(connection, site, model.version)
        others = versions_of_site(connection, site)
    if found is None:
        has = (
            f"; it has one for {', '.join(others)}, which does not hold for another version" if others else ""
        )
        raise XraycamError(
            f"--site {site}: no threshold for model {model.version}{has}; make one: "
            f"xraycam calibrate DATASET --model {model.version} --site {site}"
        )
    return options.model_copy(update={"threshold": found.threshold})

"""Which errors of a create call concern only the offer, so that the next offer is tried, for each provider.

All other errors (credentials, a wrong name, an outage) concern every offer and end the attempt.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class OfferRefusals:
    """Error codes of a provider's API, and a pattern for the text where the code also has other meanings."""

    codes: frozenset[str]
    text: re.Pattern[str]


_NO_TEXT = r"(?!)"


def _refusals(*codes: str, text: str = _NO_TEXT) -> OfferRefusals:
    return OfferRefusals(frozenset(codes), re.compile(text, re.IGNORECASE))


REFUSALS = {
    # "Errors" and "Create a Server" of https://docs.hetzner.cloud. `invalid_input` also means a bad name or a bad key.
    "hetzner": _refusals(
        "resource_unavailable",
        "placement_error",
        "unsupported_location",
        "resource_limit_exceeded",
        "invalid_server_type",
        "robot_unavailable",
        text=r"unsupported location|server type .*(not available|unavailable|deprecated)",
    ),
    # Nova has no codes below the HTTP status: quota is a 403, a flavor that left the region a 400 or a 404.
    "ovh": _refusals(
        text=r"quota|no valid host|flavor.* (could not be found|is disabled)|invalid flavorref"
        r"|flavor's (disk|memory) is too small",
    ),
    # scaleway-sdk-go/scw/errors.go; `invalid_arguments` names the argument; a quota may also be an
    # `invalid_request_error` (scaleway/scaleway-cli#530).
    "scaleway": _refusals("out_of_stock", "quotas_exceeded", text=r"commercial.type|quota exceeded"),
    # https://docs.oracle.com/iaas/Content/API/References/apierrors.htm; the texts from hitrov/oci-arm-host-capacity#142
    # and oracle/terraform-provider-oci#2103.
    "oracle": _refusals(
        "LimitExceeded",
        "QuotaExceeded",
        "OutOfHostCapacity",
        text=r"out of (host )?capacity|shape \S+ (not found|is not valid for image)",
    ),
}


def is_about_the_offer(provider: str, code: object, text: str) -> bool:
    """Whether a provider's error concerns only the requested type and location."""
    refusals = REFUSALS[provider]
    return code in refusals.codes or refusals.text.search(text) is not None

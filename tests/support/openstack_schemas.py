"""What OpenStack says of the requests and answers that workers need, as JSON schemas.

Written down from its published API references and their schemas: nova's `api/openstack/compute/schemas/servers.py` and
`flavors.py` (microversion 2.79), https://docs.openstack.org/api-ref/{compute,network/v2,image/v2,identity/v3}/. What a
request may hold is closed, as nova's own is; an answer may hold more than is listed, and must hold what is.
"""

from typing import Any

_Schema = dict[str, Any]

_TEXT = {"type": "string"}
_ID = {"type": "string", "pattern": "^[0-9a-f-]{32,36}$"}
_COUNT = {"type": "integer", "minimum": 0}
_MAYBE_TEXT = {"type": ["string", "null"]}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"}
_METADATA = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}


def _object(
    required: dict[str, Any], optional: dict[str, Any] | None = None, *, closed: bool = False
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": not closed,
    }


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


SERVER = _object(
    {
        "id": _ID,
        "name": _TEXT,
        "status": {"enum": ["ACTIVE", "BUILD", "DELETED", "ERROR", "SHUTOFF", "SOFT_DELETED", "UNKNOWN"]},
        "tenant_id": _TEXT,
        "user_id": _TEXT,
        "metadata": _METADATA,
        "hostId": _TEXT,
        "image": {"type": ["object", "string"]},
        "flavor": _object(
            {
                "original_name": _TEXT,
                "vcpus": _COUNT,
                "ram": _COUNT,
                "disk": _COUNT,
                "ephemeral": _COUNT,
                "swap": _COUNT,
            }
        ),
        "created": _TIME,
        "updated": _TIME,
        "addresses": {
            "type": "object",
            "additionalProperties": _list(_object({"addr": _TEXT, "version": {"enum": [4, 6]}})),
        },
        "accessIPv4": _TEXT,
        "accessIPv6": _TEXT,
        "links": _list(_object({"rel": _TEXT, "href": _TEXT})),
        "key_name": _MAYBE_TEXT,
        "config_drive": _TEXT,
        "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
        "OS-EXT-AZ:availability_zone": _TEXT,
        "OS-EXT-STS:power_state": {"enum": [0, 1, 3, 4, 6, 7]},
        "OS-EXT-STS:task_state": _MAYBE_TEXT,
        "OS-EXT-STS:vm_state": _TEXT,
        "description": _MAYBE_TEXT,
        "locked": {"type": "boolean"},
        "tags": _list(_TEXT),
    },
    {
        "fault": _object({"code": {"type": "integer"}, "created": _TIME, "message": _TEXT}),
        "security_groups": _list(_object({"name": _TEXT})),
    },
)
_CREATE_SERVER = _object(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": 255},
        "flavorRef": _TEXT,
        "networks": _list(_object({}, {"uuid": _ID, "port": _ID, "fixed_ip": _TEXT, "tag": _TEXT}, closed=True)),
    },
    {
        "imageRef": _ID,
        "metadata": _METADATA,
        "security_groups": _list(_object({}, {"name": _TEXT}, closed=True)),
        "user_data": {"type": "string", "pattern": "^[A-Za-z0-9+/]*=*$", "maxLength": 65535},
        "key_name": _TEXT,
        "config_drive": {"type": "boolean"},
    },
    closed=True,
)
_FLAVOR = _object(
    {
        "id": _TEXT,
        "name": _TEXT,
        "vcpus": _COUNT,
        "ram": _COUNT,
        "disk": _COUNT,
        "swap": _COUNT,
        "OS-FLV-EXT-DATA:ephemeral": _COUNT,
        "OS-FLV-DISABLED:disabled": {"type": "boolean"},
        "os-flavor-access:is_public": {"type": "boolean"},
        "rxtx_factor": {"type": "number"},
        "links": _list({"type": "object"}),
        "description": _MAYBE_TEXT,
    }
)
_RULE = _object(
    {
        "id": _ID,
        "security_group_id": _ID,
        "direction": {"enum": ["ingress", "egress"]},
        "ethertype": {"enum": ["IPv4", "IPv6"]},
        "protocol": _MAYBE_TEXT,
        "port_range_min": {"type": ["integer", "null"]},
        "port_range_max": {"type": ["integer", "null"]},
        "remote_ip_prefix": _MAYBE_TEXT,
        "remote_group_id": _MAYBE_TEXT,
        "tenant_id": _TEXT,
    }
)
_GROUP = _object(
    {
        "id": _ID,
        "name": _TEXT,
        "description": {"type": "string", "maxLength": 255},
        "tenant_id": _TEXT,
        "project_id": _TEXT,
        "security_group_rules": _list(_RULE),
        "tags": _list(_TEXT),
        "created_at": _TIME,
        "updated_at": _TIME,
        "revision_number": _COUNT,
    }
)
_CREATE_RULE = _object(
    {"security_group_id": _ID, "direction": {"enum": ["ingress", "egress"]}},
    {
        "ethertype": {"enum": ["IPv4", "IPv6"]},
        "protocol": _TEXT,
        "port_range_min": {"type": "integer", "minimum": 1, "maximum": 65535},
        "port_range_max": {"type": "integer", "minimum": 1, "maximum": 65535},
        "remote_ip_prefix": _TEXT,
    },
    closed=True,
)
_TOKEN = _object(
    {
        "token": _object(
            {
                "methods": _list(_TEXT),
                "expires_at": _TIME,
                "issued_at": _TIME,
                "user": _object({"id": _TEXT, "name": _TEXT, "domain": {"type": "object"}}),
                "project": _object({"id": _TEXT, "name": _TEXT}),
                "roles": _list({"type": "object"}),
                "catalog": _list(
                    _object(
                        {
                            "type": _TEXT,
                            "name": _TEXT,
                            "endpoints": _list(
                                _object(
                                    {
                                        "interface": {"enum": ["public", "internal", "admin"]},
                                        "region": _TEXT,
                                        "url": _TEXT,
                                    }
                                )
                            ),
                        }
                    )
                ),
            }
        )
    }
)
_LOGIN = _object(
    {
        "auth": _object(
            {
                "identity": _object(
                    {
                        "methods": {"const": ["password"]},
                        "password": _object(
                            {"user": _object({"name": _TEXT, "password": _TEXT, "domain": {"type": "object"}})}
                        ),
                    }
                )
            },
            {"scope": _object({"project": _object({"id": _TEXT})})},
        )
    },
    closed=True,
)
# Written down from how OVH's own manager reads it, and from the answers of its public address.
_CATALOGUE = _object(
    {
        "locale": _object({"currencyCode": _TEXT, "subsidiary": _TEXT, "taxRate": {"type": "number"}}),
        "addons": _list(
            _object(
                {
                    "planCode": _TEXT,
                    "product": _TEXT,
                    "pricings": _list(
                        _object(
                            {
                                "price": _COUNT,
                                "capacities": _list(_TEXT),
                                "interval": _COUNT,
                                "intervalUnit": {"enum": ["none", "hour", "day", "month", "year"]},
                            }
                        )
                    ),
                }
            )
        ),
    }
)

DESCRIBED: dict[tuple[str, str], tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    ("POST", "/v3/auth/tokens"): (_LOGIN, _TOKEN),
    ("GET", "/compute/v2.1"): (None, _object({"version": _object({"id": _TEXT, "version": _TEXT})})),
    ("GET", "/compute/v2.1/servers/detail"): (None, _object({"servers": _list(SERVER)})),
    ("POST", "/compute/v2.1/servers"): (
        _object({"server": _CREATE_SERVER}, closed=True),
        _object({"server": _object({"id": _ID, "links": _list({"type": "object"}), "adminPass": _TEXT})}),
    ),
    ("GET", "/compute/v2.1/servers/ID"): (None, _object({"server": SERVER})),
    ("DELETE", "/compute/v2.1/servers/ID"): (None, None),
    ("GET", "/compute/v2.1/flavors/detail"): (None, _object({"flavors": _list(_FLAVOR)})),
    ("GET", "/compute/v2.1/flavors"): (None, _object({"flavors": _list(_object({"id": _TEXT, "name": _TEXT}))})),
    ("GET", "/image"): (None, _object({"versions": _list({"type": "object"})})),
    ("GET", "/image/v2/images"): (
        None,
        _object({"images": _list(_object({"id": _ID, "name": _TEXT, "status": {"enum": ["active", "queued"]}}))}),
    ),
    ("GET", "/network"): (None, _object({"versions": _list({"type": "object"})})),
    ("GET", "/network/v2.0/networks"): (
        None,
        _object({"networks": _list(_object({"id": _ID, "name": _TEXT, "status": _TEXT}))}),
    ),
    ("GET", "/network/v2.0/security-groups"): (None, _object({"security_groups": _list(_GROUP)})),
    ("POST", "/network/v2.0/security-groups"): (
        _object(
            {
                "security_group": _object(
                    {"name": {"type": "string", "maxLength": 255}},
                    {"description": {"type": "string", "maxLength": 255}},
                    closed=True,
                )
            },
            closed=True,
        ),
        _object({"security_group": _GROUP}),
    ),
    ("GET", "/network/v2.0/security-groups/ID"): (None, _object({"security_group": _GROUP})),
    ("DELETE", "/network/v2.0/security-groups/ID"): (None, None),
    ("GET", "/network/v2.0/security-group-rules"): (None, _object({"security_group_rules": _list(_RULE)})),
    ("POST", "/network/v2.0/security-group-rules"): (
        _object({"security_group_rule": _CREATE_RULE}, closed=True),
        _object({"security_group_rule": _RULE}),
    ),
    ("GET", "/catalogue"): (None, _CATALOGUE),
}
"""Schemas of request and answer, by method and path; None where there is nothing to hold."""

"""What features are about: users and items."""

from feast import Entity, ValueType

OWNER = "ml-engineering"

user = Entity(
    name="user",
    join_keys=["user_id"],
    value_type=ValueType.STRING,
    description="A customer, by the shop's own id. Guests have sessions, not users.",
    tags={"contract": "silver.users"},
    owner=OWNER,
)
item = Entity(
    name="item",
    join_keys=["item_id"],
    value_type=ValueType.STRING,
    description="A product, by the shop's own code.",
    tags={"contract": "silver.items"},
    owner=OWNER,
)

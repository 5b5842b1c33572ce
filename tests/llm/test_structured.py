import asyncio
import json

import pytest
from pydantic import BaseModel, field_validator

from openk2.llm.config import EndpointConfig
from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured
from openk2.schema import Message, Sampling
from tests.llm.server import ChatServer

ASK = [Message("system", "be brief"), Message("user", "a person, please")]


class Person(BaseModel):
    name: str
    age: int

    @field_validator("age")
    @classmethod
    def _grown(cls, age):
        if age < 18:
            raise ValueError("must be grown up")
        return age


def fill(answers, form, **more):
    """Ask a server that gives these answers, one after the other."""
    left = list(answers)

    async def once(base_url):
        async with Endpoint(EndpointConfig(base_url=base_url, model="m")) as endpoint:
            return await structured(endpoint, ASK, form, Sampling(), **more)

    with ChatServer(lambda _: left.pop(0)) as server:
        return asyncio.run(once(server.base_url)), server.bodies


def test_a_right_answer_is_taken_at_once():
    filled, bodies = fill(['{"name": "Ada", "age": 36}'], Form.of(Person))
    assert filled.value == Person(name="Ada", age=36)
    assert filled.error == ""
    (body,) = bodies
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"] == {"name": "Person", "schema": Person.model_json_schema()}


def test_a_wrong_one_is_repaired_by_telling_what_was_wrong():
    filled, bodies = fill(
        ["Sure! Ada.", '{"name": "Ada"}', '{"name": "Ada", "age": 7}', '{"name": "Ada", "age": 36}'],
        Form.of(Person),
        num_repairs=3,
    )
    assert filled.value == Person(name="Ada", age=36)
    errors = [attempt.error for attempt in filled.attempts]
    assert errors[0].startswith("not JSON")
    assert errors[1] == "$: 'age' is a required property"
    assert errors[2] == "age: Value error, must be grown up"
    assert errors[3] == ""
    for number, body in enumerate(bodies[1:]):
        said = body["messages"]
        assert [m["content"] for m in said[:2]] == ["be brief", "a person, please"]
        assert said[2] == {"role": "assistant", "content": filled.attempts[number].text}
        assert errors[number] in said[3]["content"]
        assert len(said) == 4  # the last wrong answer alone: the dialogue does not grow


def test_repairs_are_bounded_and_every_attempt_is_handed_back():
    filled, bodies = fill(["no", "no, no", "never"], Form.of(Person), num_repairs=2)
    assert filled.value is None
    assert [attempt.to_json()["text"] for attempt in filled.attempts] == ["no", "no, no", "never"]
    assert filled.error.startswith("not JSON")
    assert len(bodies) == 3


def test_a_fence_around_the_json_is_forgiven():
    filled, _ = fill(['```json\n{"name": "Ada", "age": 36}\n```'], Form.of(Person))
    assert filled.value == Person(name="Ada", age=36)


@pytest.mark.parametrize(
    ("answer", "error"), [("[1, 2]", ""), ('[1, "x"]', "$[1]: 'x' is not of type 'integer'"), ("{}", "$: {}")]
)
def test_a_plain_schema(answer, error):
    schema = {"type": "array", "items": {"type": "integer"}}
    filled, _ = fill([answer], Form.plain("numbers", schema), num_repairs=0)
    assert filled.value == (None if error else json.loads(answer))
    assert filled.error.startswith(error) if error else not filled.error

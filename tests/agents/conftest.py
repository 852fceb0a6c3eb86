"""Fixtures of the agents' tests."""

import pytest
from agent_support import AGENTS, AgentWorld, Certificate, Grading, Model, make_task


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The public half of a small task."""
    return make_task(tmp_path_factory.mktemp("task") / "public")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Of this run's servers, of a stranger, and of a server by another name."""
    folder = tmp_path_factory.mktemp("certificates")
    names = {"ours": "IP:127.0.0.1", "stranger": "IP:127.0.0.1", "elsewhere": "IP:127.0.0.2"}
    return {name: Certificate(folder, name, host) for name, host in names.items()}


@pytest.fixture
def grading():
    server = Grading()
    yield server
    server.close()


@pytest.fixture
def make_model():
    """Makes models that say what they are told, and ends them."""
    made = []

    def make(**options) -> Model:
        made.append(Model(**options))
        return made[-1]

    yield make
    for model in made:
        model.close()


@pytest.fixture
def make_world(tmp_path, data):
    """Makes the surroundings of an agent, and ends whatever the agent leaves."""
    made = []

    def make(agent="aide", folder=None, data=data, **variables) -> AgentWorld:
        made.append(AgentWorld(tmp_path / f"run {len(made)}", folder or AGENTS / agent, data, **variables))
        return made[-1]

    yield make
    for world in made:
        world.clean_up()

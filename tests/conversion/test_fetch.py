"""Fetching from a fake Hub: what is kept, what is asked, and what is said where something goes wrong."""

from __future__ import annotations

from typing import Any

import huggingface_hub

from deepresidual.conversion.hub import HubId, cached, fetch
from tests.fakes.hub import FakeHub
from tests.on_demand import OnDemand

torch: Any = OnDemand("torch")
timm: Any = OnDemand("timm")


def test_the_fake_hub_is_one_to_timm(hub: FakeHub) -> None:
    hub.add_timm("timm/resnet18.tiny", "resnet18", num_classes=4)
    network = timm.create_model("hf-hub:timm/resnet18.tiny", pretrained=True, cache_dir=hub.cache)
    assert network.fc.weight.shape == (4, 512)
    assert hub.requests("model.safetensors")[0] == "HEAD /timm/resnet18.tiny/resolve/main/model.safetensors"


def test_a_repository_is_fetched_and_found_again(hub: FakeHub) -> None:
    commit = hub.add_transformers("microsoft/resnet-tiny")
    wanted = HubId("microsoft/resnet-tiny")
    assert cached(wanted) is None
    fetched = fetch(wanted)
    assert (fetched.commit, fetched.from_cache) == (commit, False)
    assert {path.name for path in fetched.folder.iterdir()} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    again = cached(wanted, verify=True)
    assert again is not None
    assert (again.folder, again.from_cache) == (fetched.folder, True)
    assert huggingface_hub.try_to_load_from_cache(wanted.name, "config.json", cache_dir=hub.cache) == str(
        fetched.folder / "config.json"
    )

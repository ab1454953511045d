"""Training and diagnosis never pass the checks of peft's version that transformers and diffusers put before their adapters."""

from pathlib import Path

import pytest
from peft import LoraConfig

from generation.diagnose.scale_audit import scales
from generation.lora.lora_file import load_lora
from generation.pipeline import load_pipeline
from tests.train.conftest import Train

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def no_peft_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both libraries require a version of peft that does not exist, as transformers 5.24 does."""
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "999.0")
    monkeypatch.setattr("diffusers.loaders.peft.MIN_PEFT_VERSION", "999.0")


@pytest.mark.usefixtures("no_peft_is_new_enough")
def test_the_checks_would_stop_the_libraries_own_calls(place: Path):
    pipeline = load_pipeline(place / "base")
    config = LoraConfig(r=2, target_modules=["q_proj"])
    with pytest.raises(ValueError, match=r"999\.0"):
        pipeline.text_encoder.add_adapter(config)
    with pytest.raises(ValueError, match=r"999\.0"):
        pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))


@pytest.mark.usefixtures("no_peft_is_new_enough")
def test_a_lora_with_text_encoders_is_trained_and_diagnosed(place: Path, train_tiny: Train):
    out = train_tiny("text_rank = 2\n[dco]")
    pipeline = load_pipeline(place / "base")
    lora = load_lora(out, pipeline)
    assert any(layer.startswith("text_encoder.") for layer in lora.factors)
    assert any(layer.startswith("text_encoder_2.") for layer in lora.factors)
    # audited through diffusers' own loader, text encoders included
    assert not [row.layer for row in scales("cat", lora, pipeline) if row.differs]

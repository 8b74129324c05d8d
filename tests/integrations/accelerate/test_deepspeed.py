"""DeepSpeed under Accelerate and Hugging Face, on the CPU, where it is installed: the engine's own norm is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.local_log import local_run
from tests.support.processes import clean_env
from tests.support.warm import run_torchrun

pytest.importorskip("deepspeed")

ACCELERATE = """
import json, torch, trackkit
from accelerate import Accelerator, DeepSpeedPlugin
from tests.support.toy import Net, Points
accelerator = Accelerator(log_with="trackkit", deepspeed_plugin=DeepSpeedPlugin(
    zero_stage=2, gradient_accumulation_steps=2, gradient_clipping=0.5))
assert accelerator.distributed_type.value == "DEEPSPEED"
trackkit.accelerate(accelerator, every=3)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
loader = torch.utils.data.DataLoader(Points(), 4)
net, optimizer, schedule, loader = accelerator.prepare(net, optimizer, schedule, loader)
accelerator.init_trackers("p", config={"output_dir": "out"})
truth = []
for batch in loader:
    with accelerator.accumulate(net):
        rate = optimizer.param_groups[0]["lr"]
        accelerator.backward(net(**batch)["loss"])
        if accelerator.sync_gradients:
            truth.append((accelerator.clip_grad_norm_(net.parameters(), 0.5), rate))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
accelerator.end_training()
print(json.dumps(truth))
"""

HUGGINGFACE = """
import json, trackkit
from transformers import Trainer, TrainingArguments
from tests.support.toy import Net, Points
config = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "gradient_clipping": 0.5,
          "zero_optimization": {"stage": 2}, "zero_force_ds_cpu_optimizer": False}
trainer = Trainer(Net(), TrainingArguments(
    "out", deepspeed=config, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_grad_norm=0.5,
    num_train_epochs=1, logging_steps=1, save_strategy="no", report_to="trackkit", disable_tqdm=True),
    train_dataset=Points())
trainer.train()
print(json.dumps([(each["grad_norm"], each["learning_rate"]) for each in trainer.state.log_history if "loss" in each]))
"""


@pytest.mark.parametrize("script", [ACCELERATE, HUGGINGFACE], ids=["accelerate", "huggingface"])
def test_norm_and_rate_of_deepspeed_are_recorded(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(script)
    env = clean_env(DS_ACCELERATOR="cpu", ACCELERATE_USE_DEEPSPEED="true")
    done = run_torchrun(path, cwd=tmp_path, processes=1, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    truth = dict(enumerate(json.loads(done.stdout.splitlines()[-1]), 1))
    run = local_run(tmp_path / "out")
    norms, rates = (dict(run.history(key)) for key in ("batch/grad_norm", "batch/lr"))
    assert {1, 3, 12} <= norms.keys()
    assert norms == pytest.approx({step: truth[step][0] for step in norms}, rel=1e-4)
    assert rates == pytest.approx({step: truth[step][1] for step in rates}, rel=1e-4)
    assert run.history("batch/samples")[-1] == (12, 96)
    assert run.summary["final/tracker_errors"] == 0

"""Where TrackKit plugs in: the frameworks that train, and the backends that rows go to.

To add one, write a file or folder here and its line below; nothing else changes. Nothing is imported before it is used,
not even `typing`: this module is part of `import trackkit`.
"""

from __future__ import annotations


class Framework:
    """A framework that trains.

    Attributes:
        hooks: `module:Class` of the hook methods; the class joins TrackKit's bases. "" without callbacks.
        bases: module to the name of the callback class in it that the framework's trainer asks for.
        everywhere: module to `module:function`, called like those of `on_import`, under `trackkit run --everywhere`.
        on_import: module to `module:function`, called with the module once it is imported.
    """

    def __init__(
        self,
        hooks: str,
        bases: dict[str, str],
        on_import: dict[str, str] | None = None,
        everywhere: dict[str, str] | None = None,
    ) -> None:
        self.hooks = hooks
        self.bases = bases
        self.on_import = on_import or {}
        self.everywhere = everywhere or {}


FRAMEWORKS = {
    "lightning": Framework(
        "trackkit.integrations.lightning.hooks:LightningHooks",
        {"lightning.pytorch.callbacks.callback": "Callback", "pytorch_lightning.callbacks.callback": "Callback"},
        {
            "lightning.fabric.fabric": "trackkit.integrations.lightning.fabric:refuse",
            "lightning_fabric.fabric": "trackkit.integrations.lightning.fabric:refuse",
        },
        {
            "lightning.pytorch.callbacks.callback": "trackkit.integrations.lightning.everywhere:install",
            "pytorch_lightning.callbacks.callback": "trackkit.integrations.lightning.everywhere:install",
        },
    ),
    "huggingface": Framework(
        "trackkit.integrations.huggingface.hooks:HuggingFaceHooks",
        {"transformers.trainer_callback": "TrainerCallback"},
        {"transformers.integrations.integration_utils": "trackkit.integrations.huggingface._compat:register_report_to"},
        {"transformers.trainer": "trackkit.integrations.huggingface._compat:add_to_defaults"},
    ),
    "accelerate": Framework(
        "",
        {},
        {"accelerate.tracking": "trackkit.integrations.accelerate.register:register"},
        {"accelerate.tracking": "trackkit.integrations.accelerate.register:replace_wandb"},
    ),
}

BACKENDS = {"wandb": "trackkit.integrations.wandb.sink:WandbSink"}
"""Name to `module:Class` of a sink; made with the settings, and whether another run of this process is open."""

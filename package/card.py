"""The model card of a generator: what the hub shows of it."""

from __future__ import annotations

from typing import Any

USE = """```python
import mscond  # {install}

generator = mscond.from_pretrained("{where}")
images = generator.sample(range(16), truncation=0.7{labels})  # uint8 [16, {resolution}, {resolution}, {channels}]
```"""
INSTALL = "pip install '.[hub]' in a checkout"


def model_card(network: Any, where: str = ".", license: str | None = None, description: str = "") -> str:
    """Return the card of a generator, Markdown with the metadata of the Hugging Face hub.

    Args:
        network: The generator.
        where: Repository or folder that it is loaded from.
        license: License of the weights. Default: none is stated.
        description: Text of the author.
    """
    metadata = [
        "library_name: mscond",
        "pipeline_tag: unconditional-image-generation",
        "tags: [gan, stylegan2]",
        *([f"license: {license}"] if license else []),
    ]
    num_weights = sum(parameter.numel() for parameter in network.parameters())
    facts = {
        "class": type(network).__name__,
        "images": f"{network.img_resolution} x {network.img_resolution} px, {network.img_channels} channels",
        "weights": f"{num_weights:,} parameters, float32",
        "latents": f"z of {network.z_dim}, w of {network.w_dim}, {network.num_ws} layers",
        "classes": str(network.c_dim) if network.c_dim else "none: the network is unconditional",
    }
    use = USE.format(
        install=INSTALL,
        where=where,
        labels=", labels=0" if network.c_dim else "",
        resolution=network.img_resolution,
        channels=network.img_channels,
    )
    sections = [
        "\n".join(["---", *metadata, "---"]),
        f"# {where.rpartition('/')[2]}" if where != "." else "# A generator",
        description.strip() or "The author has not described the training images, the run or its scores.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]),
        use,
        "`model.safetensors` and `config.json` are data: loading them executes nothing.",
    ]
    return "\n\n".join(sections) + "\n"

"""Where the network looked: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) through captum.

Shapes: B items, C channels, H rows, W columns.
"""

import torch
from torch import Tensor
from torch.nn import functional

from medray.models.cnn import NETWORKS
from medray.workload import Batch, Modules
from medray.workloads.imaging.classifier import Classifier
from medray.workloads.imaging.params import ImagingParams


def grad_cam(modules: Modules, batch: Batch, output: int, params: ImagingParams) -> Tensor:
    """heatmap_BHW in 0..1 for one output; all 0 where nothing speaks for it. Mean of members."""
    from captum.attr import LayerGradCam

    pixels_BCHW = batch["pixels"]
    size = pixels_BCHW.shape[-2:]
    total_BHW = torch.zeros((len(pixels_BCHW), *size), device=pixels_BCHW.device)
    for member in params.ensemble:
        module = modules[member.name]
        if not isinstance(module, Classifier):
            raise TypeError(f"{member.name} is not an imaging classifier")
        layer = NETWORKS[member.network].last_feature_map(module.network)
        explainer = LayerGradCam(module, layer)
        with torch.enable_grad():
            found = explainer.attribute(pixels_BCHW.float(), target=output, relu_attributions=True)
        map_B1hw = torch.as_tensor(found).detach()
        map_BHW = functional.interpolate(
            map_B1hw, size=list(size), mode="bilinear", align_corners=False
        )[:, 0]
        peak_B = map_BHW.flatten(1).amax(dim=1).clamp_min(1e-12)
        total_BHW = total_BHW + map_BHW / peak_B[:, None, None]
    return (total_BHW / params.members).clamp(0, 1)

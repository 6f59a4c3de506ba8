"""Convolutional backbones and tasks of keras-hub, with random weights, as keras-hub gives them.

Topologies (block types, depths, strides, kernel sizes, squeeze-excite) are those of the presets;
widths and image sizes are reduced where a CPU would take long. Needs keras-hub 0.32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras_hub import models

CLASSES = 10

# ------------------------------------------------------------------------------- ResNet


def _resnet(block: str, blocks: list[int], stem: list[int], size: int = 64, **options: Any) -> Any:
    return models.ResNetBackbone(
        input_conv_filters=stem,
        input_conv_kernel_sizes=[7] if len(stem) == 1 else [3, 3, 3],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=blocks,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        image_shape=(size, size, 3),
        **options,
    )


def resnet_18() -> Any:
    return _resnet("basic_block", [2, 2, 2, 2], [64])


def resnet_50() -> Any:
    return _resnet("bottleneck_block", [3, 4, 6, 3], [64])


def resnet_50_v2() -> Any:
    return _resnet("bottleneck_block", [3, 4, 6, 3], [64], use_pre_activation=True)


def resnet_18_v2() -> Any:
    return _resnet("basic_block", [2, 2, 2, 2], [64], use_pre_activation=True)


def resnet_18_vd() -> Any:
    return _resnet("basic_block_vd", [2, 2, 2, 2], [32, 32, 64])


def resnet_50_vd() -> Any:
    return _resnet("bottleneck_block_vd", [3, 4, 6, 3], [32, 32, 64])


# ------------------------------------------------------------------------------- VGG


def _vgg(repeats: list[int]) -> Any:
    return models.VGGBackbone(
        stackwise_num_repeats=repeats,
        stackwise_num_filters=[32, 64, 128, 256, 256],
        image_shape=(64, 64, 3),
    )


# ------------------------------------------------------------------------------- MobileNet


def _mobilenet(**changes: Any) -> Any:
    """MobileNetV3 small, width 0.5; keyword arguments replace parts of it."""
    arguments: dict[str, Any] = {
        "stackwise_num_blocks": [2, 3, 2, 3],
        "stackwise_expansion": [[40, 56], [64, 144, 144], [72, 72], [144, 288, 288]],
        "stackwise_num_filters": [[16, 16], [24, 24, 24], [24, 24], [48, 48, 48]],
        "stackwise_kernel_size": [[3, 3], [5, 5, 5], [5, 5], [5, 5, 5]],
        "stackwise_num_strides": [[2, 1], [2, 1, 1], [1, 1], [2, 1, 1]],
        "stackwise_se_ratio": [[None] * 2, [0.25] * 3, [0.25] * 2, [0.25] * 3],
        "stackwise_activation": [
            ["relu"] * 2,
            ["hard_swish"] * 3,
            ["hard_swish"] * 2,
            ["hard_swish"] * 3,
        ],
        "stackwise_padding": [[1, 1], [2, 2, 2], [2, 2], [2, 2, 2]],
        "output_num_filters": 1024,
        "input_num_filters": 16,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "squeeze_and_excite": 0.5,
        "last_layer_filter": 288,
        "input_activation": "hard_swish",
        "output_activation": "hard_swish",
        "image_shape": (96, 96, 3),
    }
    return models.MobileNetBackbone(**{**arguments, **changes})


def mobilenet_v3_small_050() -> Any:
    return _mobilenet()


def mobilenet_v3_small_100() -> Any:
    return _mobilenet(
        stackwise_expansion=[[72, 88], [96, 240, 240], [120, 144], [288, 576, 576]],
        stackwise_num_filters=[[24, 24], [40, 40, 40], [48, 48], [96, 96, 96]],
        depthwise_filters=16,
        last_layer_filter=576,
    )


def mobilenet_v3_large_100() -> Any:
    return _mobilenet(
        stackwise_num_blocks=[2, 3, 4, 2, 3],
        stackwise_expansion=[
            [64, 72],
            [72, 120, 120],
            [240, 200, 184, 184],
            [480, 672],
            [672, 960, 960],
        ],
        stackwise_num_filters=[[24] * 2, [40] * 3, [80] * 4, [112] * 2, [160] * 3],
        stackwise_kernel_size=[[3] * 2, [5] * 3, [3] * 4, [3] * 2, [5] * 3],
        stackwise_num_strides=[[2, 1], [2, 1, 1], [2, 1, 1, 1], [1, 1], [2, 1, 1]],
        stackwise_se_ratio=[[None] * 2, [0.25] * 3, [None] * 4, [0.25] * 2, [0.25] * 3],
        stackwise_activation=[
            ["relu"] * 2,
            ["relu"] * 3,
            ["hard_swish"] * 4,
            ["hard_swish"] * 2,
            ["hard_swish"] * 3,
        ],
        stackwise_padding=[[1] * 2, [2] * 3, [1] * 4, [1] * 2, [2] * 3],
        depthwise_filters=16,
        depthwise_stride=1,
        depthwise_residual=True,
        squeeze_and_excite=None,
        last_layer_filter=960,
    )


def mobilenet_v2_style() -> Any:
    """Inverted residuals with ReLU6 and without squeeze-excite, as MobileNetV2 has them."""
    return _mobilenet(
        stackwise_se_ratio=[[None] * 2, [None] * 3, [None] * 2, [None] * 3],
        stackwise_kernel_size=[[3] * 2, [3] * 3, [3] * 2, [3] * 3],
        stackwise_padding=[[1] * 2, [1] * 3, [1] * 2, [1] * 3],
        stackwise_activation=[["relu6"] * 2, ["relu6"] * 3, ["relu6"] * 2, ["relu6"] * 3],
        input_activation="relu6",
        output_activation="relu6",
        squeeze_and_excite=None,
    )


def mobilenet_v1_style() -> Any:
    """Depthwise-separable blocks only: expansion to the incoming width, no squeeze-excite."""
    return _mobilenet(
        stackwise_num_blocks=[2, 2],
        stackwise_expansion=[[16, 32], [32, 64]],
        stackwise_num_filters=[[32, 32], [64, 64]],
        stackwise_kernel_size=[[3, 3], [3, 3]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [None, None]],
        stackwise_activation=[["relu6", "relu6"], ["relu6", "relu6"]],
        stackwise_padding=[[1, 1], [1, 1]],
        input_activation="relu6",
        output_activation="relu6",
        depthwise_filters=16,
        squeeze_and_excite=None,
    )


# ------------------------------------------------------------------------------- MobileNetV5

_Blocks = list[list[dict[str, Any]]]


def _v5_block(kind: str, filters: int, stride: int = 1, expansion: float = 4.0, **more: Any) -> Any:
    return {"types": kind, "filters": filters, "strides": stride, "expansion": expansion, **more}


def _mobilenet_v5(blocks: _Blocks, act: str = "gelu", **options: Any) -> Any:
    def stackwise(key: str, default: Any) -> list[list[Any]]:
        return [[block.get(key, default) for block in stack] for stack in blocks]

    return models.MobileNetV5Backbone(
        stackwise_block_types=stackwise("types", None),
        stackwise_num_blocks=[len(stack) for stack in blocks],
        stackwise_num_filters=stackwise("filters", None),
        stackwise_strides=stackwise("strides", 1),
        stackwise_act_layers=[[act] * len(stack) for stack in blocks],
        stackwise_exp_ratios=stackwise("expansion", 4.0),
        stackwise_se_ratios=stackwise("se", 0.0),
        stackwise_dw_kernel_sizes=stackwise("mid", 0),
        stackwise_dw_start_kernel_sizes=stackwise("start", 0),
        stackwise_dw_end_kernel_sizes=stackwise("end", 0),
        stackwise_exp_kernel_sizes=stackwise("kernel", 3),
        stackwise_pw_kernel_sizes=stackwise("pointwise", 1),
        stackwise_num_heads=stackwise("heads", 0),
        stackwise_key_dims=stackwise("key_dim", 0),
        stackwise_value_dims=stackwise("key_dim", 0),
        stackwise_kv_strides=stackwise("kv_stride", 1),
        stackwise_use_cpe=stackwise("cpe", False),
        act_layer=act,
        image_shape=(64, 64, 3),
        **options,
    )


def _v5_convolutions() -> _Blocks:
    """The stages of the 300M preset at an eighth of the width, without its attention blocks."""
    return [
        [_v5_block("er", 16, 2), _v5_block("er", 16), _v5_block("er", 16)],
        [
            _v5_block("uir", 32, 2, 6.0, start=3, mid=5),
            _v5_block("uir", 32, start=5),
            _v5_block("uir", 32, start=3),
        ],
        [
            _v5_block("uir", 80, 2, 6.0, start=5, mid=5),
            _v5_block("uir", 80, start=5),
            _v5_block("uir", 80, 1, 2.0),
        ],
        [_v5_block("uir", 160, 2, 6.0, start=5, mid=5), _v5_block("uir", 160, 1, 2.0)],
    ]


def mobilenet_v5_300m_style() -> Any:
    return _mobilenet_v5(
        _v5_convolutions(),
        norm_layer="rms_norm",
        layer_scale_init_value=0.1,
        num_features=256,
        msfa_output_resolution=4,
    )


def mobilenet_v5_batch_norm() -> Any:
    return _mobilenet_v5(
        _v5_convolutions(), act="relu", norm_layer="batch_norm", use_msfa=False, drop_path_rate=0.1
    )


def mobilenet_v5_attention() -> Any:
    """With multi-query attention blocks, which stay whole."""
    blocks = _v5_convolutions()
    attention = _v5_block("mqa", 80, mid=3, heads=4, key_dim=16, kv_stride=2)
    blocks[2] = [*blocks[2], attention, _v5_block("uir", 80, 1, 2.0)]
    return _mobilenet_v5(blocks, norm_layer="rms_norm", layer_scale_init_value=0.1, use_msfa=False)


# ------------------------------------------------------------------------------- EfficientNet


def _efficientnet(size: int = 64, **arguments: Any) -> Any:
    return models.EfficientNetBackbone(input_shape=(size, size, 3), **arguments)


def _efficientnet_v1(width: float, depth: float, se: float, **options: Any) -> Any:
    return _efficientnet(
        stackwise_width_coefficients=[width] * 7,
        stackwise_depth_coefficients=[depth] * 7,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        stackwise_squeeze_and_excite_ratios=[se] * 7,
        stackwise_block_types=["v1"] * 7,
        min_depth=None,
        include_stem_padding=True,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        stem_conv_padding="valid",
        num_features=int(1280 * width),
        **options,
    )


def efficientnet_b0() -> Any:
    return _efficientnet_v1(0.5, 1.0, 0.25, activation="swish")


def efficientnet_b2() -> Any:
    return _efficientnet_v1(0.55, 1.2, 0.25, activation="swish")


def efficientnet_lite0() -> Any:
    return _efficientnet_v1(0.5, 1.0, 0, activation="relu6")


def efficientnet_es() -> Any:
    """EfficientNet-EdgeTPU: fused blocks, then unfused ones, without squeeze-excite."""
    return _efficientnet(
        stackwise_width_coefficients=[0.5] * 6,
        stackwise_depth_coefficients=[1.0] * 6,
        stackwise_kernel_sizes=[3, 3, 3, 5, 5, 5],
        stackwise_num_repeats=[1, 2, 4, 5, 4, 2],
        stackwise_input_filters=[32, 24, 32, 48, 96, 144],
        stackwise_output_filters=[24, 32, 48, 96, 144, 192],
        stackwise_expansion_ratios=[4, 8, 8, 8, 8, 8],
        stackwise_strides=[1, 2, 2, 2, 1, 2],
        stackwise_squeeze_and_excite_ratios=[0] * 6,
        stackwise_block_types=["fused"] * 3 + ["unfused"] * 3,
        stackwise_force_input_filters=[24, 0, 0, 0, 0, 0],
        stackwise_nores_option=[True] + [False] * 5,
        activation="relu",
        num_features=640,
    )


def _efficientnet_v2(blocks: list[str]) -> Any:
    return _efficientnet(
        stackwise_width_coefficients=[0.5] * 6,
        stackwise_depth_coefficients=[0.5] * 6,
        stackwise_kernel_sizes=[3] * 6,
        stackwise_num_repeats=[2, 4, 4, 6, 9, 15],
        stackwise_input_filters=[24, 24, 48, 64, 128, 160],
        stackwise_output_filters=[24, 48, 64, 128, 160, 256],
        stackwise_expansion_ratios=[1, 4, 4, 4, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2],
        stackwise_squeeze_and_excite_ratios=[0, 0, 0, 0.25, 0.25, 0.25],
        stackwise_block_types=blocks,
        stackwise_force_input_filters=[0] * 6,
        stackwise_nores_option=[False] * 6,
        activation="silu",
        num_features=640,
    )


def efficientnet_v2_rw_s() -> Any:
    return _efficientnet_v2(["fused"] * 3 + ["unfused"] * 3)


def efficientnet_v2_rw_t() -> Any:
    return _efficientnet_v2(["cba"] + ["fused"] * 2 + ["unfused"] * 3)


# ------------------------------------------------------------------------------- DenseNet


def _densenet(repeats: list[int], growth: int = 16) -> Any:
    return models.DenseNetBackbone(
        stackwise_num_repeats=repeats,
        growth_rate=growth,
        compression_ratio=0.5,
        image_shape=(64, 64, 3),
    )


# ------------------------------------------------------------------------------- CSPNet


def _cspnet(**arguments: Any) -> Any:
    return models.CSPNetBackbone(image_shape=(64, 64, 3), **arguments)


def csp_darknet_53() -> Any:
    return _cspnet(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2, 8, 8, 4],
        stackwise_strides=[2, 2, 2, 2, 2],
        stackwise_num_filters=[16, 32, 64, 128, 256],
        bottle_ratio=(0.5, 1.0),
        block_ratio=(1.0, 0.5),
        expand_ratio=(2.0, 1.0),
        stem_padding="same",
        stage_type="csp",
        block_type="dark_block",
        down_growth=True,
    )


def darknet_53() -> Any:
    return _cspnet(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2, 8, 8, 4],
        stackwise_strides=[2, 2, 2, 2, 2],
        stackwise_num_filters=[16, 32, 64, 128, 256],
        bottle_ratio=[0.5],
        stem_padding="same",
        stage_type="dark",
        block_type="dark_block",
    )


def csp_resnet_50() -> Any:
    return _cspnet(
        stem_filters=32,
        stem_kernel_size=7,
        stem_strides=4,
        stackwise_depth=[3, 3, 5, 2],
        stackwise_strides=[1, 2, 2, 2],
        stackwise_num_filters=[32, 64, 128, 256],
        block_type="bottleneck_block",
        stage_type="csp",
        bottle_ratio=[0.5],
        expand_ratio=[2.0],
        stem_pooling="max",
        cross_linear=True,
    )


def csp_resnext_50() -> Any:
    return _cspnet(
        stem_filters=64,
        stem_kernel_size=7,
        stem_strides=4,
        stackwise_depth=[3, 3, 5, 2],
        stackwise_strides=[1, 2, 2, 2],
        stackwise_num_filters=[64, 128, 256, 512],
        block_type="bottleneck_block",
        stage_type="csp",
        block_ratio=[0.5],
        groups=8,
        stem_pooling="max",
        cross_linear=True,
    )


def _cs3(block: str, **options: Any) -> Any:
    return _cspnet(
        stem_filters=[16, 32],
        stem_kernel_size=3,
        stem_strides=2,
        stackwise_depth=[1, 2, 3, 1],
        stackwise_strides=[1, 2, 2, 2],
        stackwise_num_filters=[32, 64, 128, 256],
        block_type=block,
        stage_type="cs3",
        block_ratio=[0.5],
        activation="silu",
        stem_padding="same",
        **options,
    )


def cs3_darknet() -> Any:
    return _cs3("dark_block", avg_down=True)


def cs3_edge() -> Any:
    return _cs3("edge_block")


# ------------------------------------------------------------------------------- dense prediction


def _retinanet(encoder: Any, size: int = 128, **options: Any) -> Any:
    return models.RetinaNetBackbone(
        image_encoder=encoder,
        min_level=3,
        max_level=7,
        image_shape=(size, size, 3),
        **{"use_p5": False, **options},
    )


def retinanet_resnet_18() -> Any:
    return _retinanet(_resnet("basic_block", [2, 2, 2, 2], [64], 128))


def retinanet_resnet_50_p5_batch_norm() -> Any:
    encoder = _resnet("bottleneck_block", [3, 4, 6, 3], [64], 128)
    return _retinanet(encoder, use_p5=True, use_fpn_batch_norm=True)


def retinanet_object_detector() -> Any:
    return models.RetinaNetObjectDetector(
        backbone=retinanet_resnet_18(), num_classes=CLASSES, preprocessor=None
    )


def retinanet_object_detector_group_norm() -> Any:
    return models.RetinaNetObjectDetector(
        backbone=retinanet_resnet_18(),
        num_classes=CLASSES,
        use_prediction_head_norm=True,
        preprocessor=None,
    )


def _deeplab(**options: Any) -> Any:
    return models.DeepLabV3Backbone(
        image_encoder=_resnet("bottleneck_block", [3, 4, 6, 3], [64], 96),
        spatial_pyramid_pooling_key="P5",
        dilation_rates=[6, 12, 18],
        image_shape=(96, 96, 3),
        **{"upsampling_size": 8, **options},
    )


def deeplab_v3() -> Any:
    return _deeplab()


def deeplab_v3_plus() -> Any:
    return _deeplab(low_level_feature_key="P2", projection_filters=48)


def deeplab_v3_plus_segmenter() -> Any:
    return models.DeepLabV3ImageSegmenter(backbone=deeplab_v3_plus(), num_classes=CLASSES)


# ------------------------------------------------------------------------------- HGNetV2


def _hgnet(stages: list[Any], stem: list[int], affine: bool) -> Any:
    return models.HGNetV2Backbone(
        depths=[stage[3] for stage in stages],
        embedding_size=stem[2],
        hidden_sizes=[stage[2] for stage in stages],
        stem_channels=stem,
        hidden_act="relu",
        use_learnable_affine_block=affine,
        stackwise_stage_filters=stages,
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        image_shape=(64, 64, 3),
    )


def _hgnet_b0(affine: bool) -> Any:
    stages = [
        [16, 16, 32, 1, 3, 3],
        [32, 32, 128, 1, 3, 3],
        [128, 64, 256, 2, 3, 5],
        [256, 128, 512, 1, 3, 5],
    ]
    return _hgnet(stages, [3, 16, 16], affine)


def hgnet_v2_b0() -> Any:
    return _hgnet_b0(affine=True)


def hgnet_v2_b0_ssld() -> Any:
    return _hgnet_b0(affine=False)


def hgnet_v2_b4() -> Any:
    stages = [
        [24, 24, 64, 1, 6, 3],
        [64, 48, 128, 1, 6, 3],
        [128, 96, 256, 3, 6, 5],
        [256, 192, 512, 1, 6, 5],
    ]
    return _hgnet(stages, [3, 16, 24], affine=True)


# ------------------------------------------------------------------------------- Xception


def xception_41() -> Any:
    return models.XceptionBackbone(
        stackwise_conv_filters=[
            [16, 32],
            [64, 64],
            [128, 128],
            [364, 364],
            *([364, 364, 364] for _ in range(8)),
            [364, 512],
            [768, 1024],
        ],
        stackwise_pooling=[False, True, True, True, *([False] * 8), True, False],
        image_shape=(96, 96, 3),
    )


# ------------------------------------------------------------------------------- tasks


def resnet_18_classifier() -> Any:
    return models.ResNetImageClassifier(backbone=resnet_18(), num_classes=CLASSES)


def vgg_16_classifier() -> Any:
    return models.VGGImageClassifier(
        backbone=_vgg([2, 2, 3, 3, 3]),
        num_classes=CLASSES,
        pooling="flatten",
        pooling_hidden_dim=256,
        dropout=0.5,
    )


def mobilenet_v3_small_classifier() -> Any:
    return models.MobileNetImageClassifier(
        backbone=mobilenet_v3_small_050(), num_classes=CLASSES, num_features=256
    )


def efficientnet_b0_classifier() -> Any:
    return models.EfficientNetImageClassifier(backbone=efficientnet_b0(), num_classes=CLASSES)


def densenet_121_classifier() -> Any:
    return models.DenseNetImageClassifier(backbone=_densenet([6, 12, 24, 16]), num_classes=CLASSES)


def csp_darknet_53_classifier() -> Any:
    return models.CSPNetImageClassifier(backbone=csp_darknet_53(), num_classes=CLASSES)


def hgnet_v2_b0_classifier() -> Any:
    return models.HGNetV2ImageClassifier(
        backbone=hgnet_v2_b0(), preprocessor=None, num_classes=CLASSES, head_filters=256
    )


def xception_41_classifier() -> Any:
    return models.XceptionImageClassifier(backbone=xception_41(), num_classes=CLASSES)


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "resnet_18": resnet_18,
    "resnet_50": resnet_50,
    "resnet_18_v2": resnet_18_v2,
    "resnet_50_v2": resnet_50_v2,
    "resnet_18_vd": resnet_18_vd,
    "resnet_50_vd": resnet_50_vd,
    "vgg_11": lambda: _vgg([1, 1, 2, 2, 2]),
    "vgg_16": lambda: _vgg([2, 2, 3, 3, 3]),
    "vgg_19": lambda: _vgg([2, 2, 4, 4, 4]),
    "mobilenet_v1_style": mobilenet_v1_style,
    "mobilenet_v2_style": mobilenet_v2_style,
    "mobilenet_v3_small_050": mobilenet_v3_small_050,
    "mobilenet_v3_small_100": mobilenet_v3_small_100,
    "mobilenet_v3_large_100": mobilenet_v3_large_100,
    "mobilenet_v5_300m_style": mobilenet_v5_300m_style,
    "mobilenet_v5_batch_norm": mobilenet_v5_batch_norm,
    "mobilenet_v5_attention": mobilenet_v5_attention,
    "efficientnet_b0": efficientnet_b0,
    "efficientnet_b2": efficientnet_b2,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_es": efficientnet_es,
    "efficientnet_v2_rw_s": efficientnet_v2_rw_s,
    "efficientnet_v2_rw_t": efficientnet_v2_rw_t,
    "densenet_121": lambda: _densenet([6, 12, 24, 16]),
    "densenet_169": lambda: _densenet([6, 12, 32, 32]),
    "csp_darknet_53": csp_darknet_53,
    "darknet_53": darknet_53,
    "csp_resnet_50": csp_resnet_50,
    "csp_resnext_50": csp_resnext_50,
    "cs3_darknet": cs3_darknet,
    "cs3_edge": cs3_edge,
    "retinanet_resnet_18": retinanet_resnet_18,
    "retinanet_resnet_50_p5_batch_norm": retinanet_resnet_50_p5_batch_norm,
    "retinanet_object_detector": retinanet_object_detector,
    "retinanet_object_detector_group_norm": retinanet_object_detector_group_norm,
    "deeplab_v3": deeplab_v3,
    "deeplab_v3_plus": deeplab_v3_plus,
    "deeplab_v3_plus_segmenter": deeplab_v3_plus_segmenter,
    "hgnet_v2_b0": hgnet_v2_b0,
    "hgnet_v2_b0_ssld": hgnet_v2_b0_ssld,
    "hgnet_v2_b4": hgnet_v2_b4,
    "xception_41": xception_41,
    "resnet_18_classifier": resnet_18_classifier,
    "vgg_16_classifier": vgg_16_classifier,
    "mobilenet_v3_small_classifier": mobilenet_v3_small_classifier,
    "efficientnet_b0_classifier": efficientnet_b0_classifier,
    "densenet_121_classifier": densenet_121_classifier,
    "csp_darknet_53_classifier": csp_darknet_53_classifier,
    "hgnet_v2_b0_classifier": hgnet_v2_b0_classifier,
    "xception_41_classifier": xception_41_classifier,
}

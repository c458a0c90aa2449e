"""Tiny models of Transformers with weights from a fixed seed, saved as their authors save them.

Each function writes one to a folder. Importing this imports Transformers.
"""

from __future__ import annotations

import json
import os

# Read by the Hub's client when it is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<image>", "[EMPTY]", "good", "bad", "wine",
    "very", "is", "this", "Yes", "No",
]  # fmt: skip
LAYER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TEXT = {**LAYER, "vocab_size": len(WORDS), "max_position_embeddings": 64}
VISION = {**LAYER, "image_size": 8, "patch_size": 4}
SIDE = {"height": 8, "width": 8}
LABELS = {"id2label": {0: "entailment", 1: "other"}, "label2id": {"entailment": 0, "other": 1}}
CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
CHAT_OF_PARTS = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }} {% endfor %}{% endfor %}"
)


def save(folder, cls, config, *parts):
    torch.manual_seed(0)
    for part in (getattr(transformers, cls)(config), *parts):
        part.save_pretrained(folder)


def words(**options):
    """A tokenizer of whole words."""
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]", **options
    )


def vocabulary(folder):
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return str(folder / "vocab.txt")


def bert(folder, kind="ForSequenceClassification", **config):
    tokenizer = transformers.BertTokenizer(vocabulary(folder))
    save(folder, f"Bert{kind}", transformers.BertConfig(**TEXT, **config), tokenizer)


def llama(folder):
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.LlamaConfig(**TEXT, **tokens, num_key_value_heads=2)
    save(folder, "LlamaForCausalLM", config, words(chat_template=CHAT))


def llava(folder):
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = transformers.LlamaConfig(**TEXT, **tokens, num_key_value_heads=2)
    pixels = {"vision_feature_layer": -1, "vision_feature_select_strategy": "default"}
    vision = transformers.CLIPVisionConfig(**VISION)
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_id=5, image_seq_length=4, **pixels
    )
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=SIDE),
        tokenizer=words(extra_special_tokens={"image_token": "<image>"}, padding_side="left"),
        patch_size=4, num_additional_image_tokens=1, chat_template=CHAT_OF_PARTS,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    save(folder, "LlavaForConditionalGeneration", config, processor)


def wav2vec2(folder, kind="ForCTC", **config):
    letters = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4}
    (folder / "vocab.json").write_text(json.dumps(letters))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(
        str(folder / "vocab.json"), bos_token=None, eos_token=None
    )
    config = transformers.Wav2Vec2Config(
        **LAYER, vocab_size=5, pad_token_id=0, classifier_proj_size=8, num_feat_extract_layers=2,
        conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, **config,
    )  # fmt: skip
    save(folder, f"Wav2Vec2{kind}", config, transformers.Wav2Vec2FeatureExtractor(), tokenizer)


def clap(folder):
    sound = {
        "hidden_size": 16, "num_mel_bins": 16, "spec_size": 64, "window_size": 4, "patch_size": 4,
        "patch_stride": [4, 4], "patch_embeds_hidden_size": 8, "depths": [1, 1],
        "num_attention_heads": [1, 2], "num_hidden_layers": 2, "projection_dim": 8,
    }  # fmt: skip
    text = {**TEXT, "projection_dim": 8}
    config = transformers.ClapConfig(audio_config=sound, text_config=text, projection_dim=8)
    extractor = transformers.ClapFeatureExtractor(
        feature_size=16, sampling_rate=16000, fft_window_size=256, hop_length=128,
        max_length_s=1, nb_max_samples=16000, truncation="rand_trunc", padding="repeatpad",
    )  # fmt: skip
    save(folder, "ClapModel", config, extractor, words())


def vits(folder):
    (folder / "vocab.json").write_text(json.dumps({" ": 0, "a": 1, "b": 2, "<unk>": 3}))
    tokenizer = transformers.VitsTokenizer(
        str(folder / "vocab.json"), phonemize=False, normalize=False, pad_token=" "
    )
    config = transformers.VitsConfig(
        vocab_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
        flow_size=16, spectrogram_bins=9, upsample_initial_channel=16, upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 1]],
        prior_encoder_num_flows=1, prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1, duration_predictor_num_flows=1,
        duration_predictor_filter_channels=16, depth_separable_num_layers=1,
        noise_scale=0.0, noise_scale_duration=0.0, num_speakers=2, speaker_embedding_size=4,
    )  # fmt: skip
    save(folder, "VitsModel", config, tokenizer)


def vit(folder, kind="ForImageClassification"):
    config = transformers.ViTConfig(**VISION, num_labels=3)
    save(folder, f"ViT{kind}", config, transformers.ViTImageProcessor(size=SIDE))


def yolos(folder):
    config = transformers.YolosConfig(
        **{**VISION, "image_size": [32, 32]}, num_detection_tokens=4, num_labels=3
    )
    processor = transformers.YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 64})
    save(folder, "YolosForObjectDetection", config, processor)


def segformer(folder):
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[1, 1], hidden_sizes=[8, 8],
        patch_sizes=[3, 3], strides=[2, 2], num_attention_heads=[1, 1], mlp_ratios=[1, 1],
        decoder_hidden_size=8, num_labels=3,
    )  # fmt: skip
    processor = transformers.SegformerImageProcessor(size=SIDE)
    save(folder, "SegformerForSemanticSegmentation", config, processor)


def glpn(folder):
    config = transformers.GLPNConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[1, 1], hidden_sizes=[8, 8],
        patch_sizes=[3, 3], strides=[2, 2], num_attention_heads=[1, 1], mlp_ratios=[1, 1],
        decoder_hidden_size=8, initializer_range=0.5,
    )  # fmt: skip
    processor = transformers.GLPNImageProcessor(size_divisor=8)
    save(folder, "GLPNForDepthEstimation", config, processor)


def clip(folder):
    text = {**TEXT, "eos_token_id": 3}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=SIDE)
    save(folder, "CLIPModel", config, processor, words())


def owlvit(folder):
    text = {**TEXT, "eos_token_id": 3}
    config = transformers.OwlViTConfig(text_config=text, vision_config=VISION, projection_dim=16)
    processor = transformers.OwlViTImageProcessor(size=SIDE)
    save(folder, "OwlViTForObjectDetection", config, processor, words())


def sam(folder):
    side = {"image_size": 16, "patch_size": 4}
    config = transformers.SamConfig(
        vision_config={
            **side, "hidden_size": 16, "output_channels": 8, "num_hidden_layers": 1, "mlp_dim": 16,
            "num_attention_heads": 2, "global_attn_indexes": [0], "window_size": 0,
            "num_pos_feats": 4,
        },
        prompt_encoder_config={**side, "hidden_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 8, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
            "iou_head_hidden_dim": 8, "iou_head_depth": 2,
        },
    )  # fmt: skip
    square, edge = {"height": 16, "width": 16}, {"longest_edge": 16}
    processor = transformers.SamImageProcessor(
        size=edge, pad_size=square, mask_size=edge, mask_pad_size=square
    )
    save(folder, "SamModel", config, processor)


def superglue(folder):
    points = transformers.SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=16, keypoint_decoder_dim=65,
        descriptor_decoder_dim=16, max_keypoints=8, keypoint_threshold=0.0,
    )  # fmt: skip
    config = transformers.SuperGlueConfig(
        keypoint_detector_config=points, hidden_size=16, keypoint_encoder_sizes=[8],
        gnn_layers_types=["self", "cross"], sinkhorn_iterations=2, num_attention_heads=2,
    )  # fmt: skip
    processor = transformers.SuperGlueImageProcessor(size={"height": 32, "width": 32})
    save(folder, "SuperGlueForKeypointMatching", config, processor)


def layoutlm(folder):
    tokenizer = transformers.LayoutLMTokenizerFast(vocabulary(folder), model_max_length=64)
    config = transformers.LayoutLMConfig(**TEXT, max_2d_position_embeddings=1024)
    save(folder, "LayoutLMForQuestionAnswering", config, tokenizer)


def tapas(folder):
    tokenizer = transformers.TapasTokenizer(vocabulary(folder), model_max_length=64)
    config = transformers.TapasConfig(
        **TEXT, type_vocab_sizes=[3, 16, 16, 2, 16, 16, 10], num_aggregation_labels=2,
        aggregation_labels={0: "NONE", 1: "SUM"}, no_aggregation_label_index=0,
        select_one_column=True,
    )  # fmt: skip
    save(folder, "TapasForQuestionAnswering", config, tokenizer)


def videomae(folder):
    config = transformers.VideoMAEConfig(**VISION, num_frames=4, tubelet_size=2, num_labels=3)
    processor = transformers.VideoMAEImageProcessor(size={"shortest_edge": 8}, crop_size=SIDE)
    save(folder, "VideoMAEForVideoClassification", config, processor)

"""Every key that a training config may have, with its default."""

from __future__ import annotations

import ml_collections

from vit_keras.names import unknown_name


def get_config() -> ml_collections.ConfigDict:
    """A config with every key at its default; `tpu_configs` start from it.

    Keys up to `trainer` are the original vision_transformer's and mean the same; the others are
    ours. None means "not set".
    """
    config = ml_collections.ConfigDict()

    # -- Model ---------------------------------------------------------------------------------
    # Where `<model_or_filename or model.model_name>.npz` is; None: fresh weights.
    config.pretrained_dir = "."
    # Facts of the variant: `model_name` (such as ViT-B_16) and what overrides that variant's facts
    # or regularization (`classifier`, `representation_size`, `dropout`, ...; `stem` of a hybrid:
    # the units of each stage). Of two towers the groups `image` and `text` have the facts of each,
    # and `image_weights` is an `.npz` for the image tower of fresh ones.
    config.model = ml_collections.ConfigDict({"model_name": "ViT-B_16"})
    # A file of `pretrained_dir` without `.npz`, if it isn't called like the model; or a model of
    # AugReg (R_Ti_16): its best ImageNet-21k checkpoint by the folder's index.csv.
    config.model_or_filename = None
    # Make the checkpoint's head new even where it has as many classes.
    config.reset_head = True
    # Plain ViTs only: each step trains at one of these patch sizes, drawn evenly (FlexiViT); also
    # evaluate at these. The weights are kept at the model's own patch size.
    config.flexi = ml_collections.ConfigDict({"patch_sizes": (), "eval_patch_sizes": ()})

    # -- Data ----------------------------------------------------------------------------------
    # TFDS name, or a folder `{train,test}/<class>/*.jpg|png`, or one of our TFRecords.
    config.dataset = None
    # Splits, and the size that images are brought to; pipeline strings None: the fine-tuning ones.
    config.pp = ml_collections.ConfigDict(
        {"train": "train", "test": "test", "crop": 224, "train_ops": None, "test_ops": None}
    )
    config.tfds_data_dir = None
    config.tfds_manual_dir = None
    # Images in the shuffle buffer (still encoded).
    config.shuffle_buffer = 50_000
    # What an image that can't be decoded does: error, or skip (counted, listed at the end).
    config.on_bad_image = "error"
    # Of two towers: the feature of the data set with captions, such as captions/text; without one,
    # captions are templates with the class's name. Tokenizer, the path or address of its
    # vocabulary, tokens of a text (None: as many as the tower takes), and the tokenizer's options:
    # see models.tokenizers.get_tokenizer.
    config.text = ml_collections.ConfigDict(
        {
            "feature": None,
            "templates": ("a photo of a {}.",),
            "tokenizer": "sentencepiece",
            "vocabulary": None,
            "max_length": None,
            "options": ml_collections.ConfigDict(),
        }
    )
    # Keep all (encoded) training images in memory.
    config.cache_raw = False
    # Batches that the input pipeline prepares ahead.
    config.prefetch = 2

    # -- Duration: of each group one key, in steps, epochs or examples ---------------------------
    config.total_steps = None
    config.total_epochs = None
    config.total_examples = None
    config.warmup_steps = 500
    config.warmup_epochs = None
    config.warmup_examples = None
    # Descent to 0 at the end, for rsqrt and constant.
    config.cooldown_steps = 0

    # -- Optimization --------------------------------------------------------------------------
    # Global batch size; a replica gets its share of it, in `accum_steps` micro-batches.
    config.batch = 512
    config.accum_steps = 8
    # Peak learning rate and how it decays: cosine, linear, rsqrt, constant.
    config.base_lr = 0.03
    config.decay_type = "cosine"
    # What `linear` ends at, and `rsqrt`'s timescale in steps.
    config.linear_end = 1e-5
    config.timescale = 10_000
    # Largest global norm of the averaged gradient; None: no limit.
    config.grad_norm_clip = 1.0
    # dtype of the momentum (first moment): bfloat16 or float32.
    config.optim_dtype = "bfloat16"
    # sgd, adam, adamw, adafactor, lamb; and the rule's other hyperparameters by name.
    config.optimizer = "sgd"
    config.optimizer_args = ml_collections.ConfigDict()
    # Decoupled weight decay. Form big_vision: times the schedule relative to its peak;
    # keras: times the learning rate. Multipliers are (pattern, factor) pairs over checkpoint names.
    config.weight_decay = 0.0
    config.weight_decay_form = "big_vision"
    config.weight_decay_multipliers = ((".*/kernel$", 1.0),)
    # (pattern, factor) pairs on the learning rate; patterns of what isn't trained at all; factor
    # on the learning rate for each layer further from the head.
    config.lr_multipliers = ()
    config.frozen = ()
    config.layer_decay = None
    # Exponential moving average of the weights, and evaluation with it: its decay.
    config.ema_decay = None
    # sharpness.rho turns SAM on; alpha > 0 makes it GSAM, rho_min its smallest radius.
    config.sharpness = ml_collections.ConfigDict({"rho": None, "rho_min": None, "alpha": 0.0})

    # -- Loss ----------------------------------------------------------------------------------
    # softmax or sigmoid (summed over the classes); of two towers: over the texts of the batch.
    config.loss = "softmax"
    config.label_smoothing = 0.0
    # Beta(mixup, mixup) and Beta(cutmix, cutmix) on the device; with both, one is drawn each step.
    config.mixup = 0.0
    config.cutmix = 0.0
    # An `.npz` file of a teacher for distillation, the side that images are resized to for it
    # (None: they aren't), and the temperature.
    config.teacher = None
    config.teacher_size = None
    # The teacher's variant, for preflight where the file isn't there.
    config.teacher_model = None
    config.teacher_temperature = 1.0
    # Initial bias of the head (sigmoid loss: about -log(classes)).
    config.head_bias = None

    # -- Where and how it runs -------------------------------------------------------------------
    # auto, tpu, mirrored, multi_worker, one_device; `tpu`: a name, local, or grpc:// addresses.
    config.strategy = "auto"
    config.tpu = None
    # Local devices for mirrored; None: all.
    config.num_devices = None
    # Keras dtype policy: float32, mixed_bfloat16, mixed_float16.
    config.dtype = "float32"
    # Most steps in one compiled call; None: progress_every. SIGTERM waits for the call's end.
    config.steps_per_loop = None
    # Seconds without a finished compiled call, evaluation or save after which the process ends
    # itself (exit code 77) for whoever starts it again; must exceed the longest. None: never.
    config.hang_seconds = None
    # Of initial weights, shuffling, augmentation, dropout, mixup.
    config.seed = 0
    # Leave out of training steps what of the last block cannot reach the loss: all tokens but the
    # one that is pooled, where it is one. Changes time and memory only.
    config.prune_last_block = True
    # Slower kernels whose results repeat bit for bit on a GPU.
    config.deterministic = False

    # -- Seeing, saving ------------------------------------------------------------------------
    # Every so many steps: metrics; evaluation; a checkpoint. 0: only at the end.
    config.progress_every = 10
    config.eval_every = 100
    config.checkpoint_every = 1_000
    config.batch_eval = 512
    # Newest checkpoints to keep, and those of every so many steps besides (0: none).
    config.keep_checkpoints = 2
    config.keep_checkpoint_every = 0
    # Evaluators besides the accuracy on pp.test, on the input of the head: name -> {type: few_shot
    # or knn; dataset, train, test (splits), ops (pipeline string), each by default that of the
    # run's evaluation; and the evaluator's own arguments: shots, l2, num_seeds; ks, temperature}.
    config.evaluators = ml_collections.ConfigDict()
    # "first:last": steps between which a trace is written; None: none.
    config.profile = None
    # The original's alternatives to training; only "train" exists here.
    config.trainer = "train"
    return config


# Values below these keys are the user's own names.
OPEN_GROUPS = ("model", "optimizer_args", "evaluators", "text.options")


def complete(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy of `config` in which every key is set.

    Raises:
      ValueError: for a key that doesn't exist, naming the nearest that does.
    """
    complete_config = get_config()
    _update(complete_config, config, "")
    return complete_config


def _update(target: ml_collections.ConfigDict, source, prefix: str) -> None:
    for key, value in source.items():
        if key not in target and prefix not in [f"{name}." for name in OPEN_GROUPS]:
            raise unknown_name("config key", prefix + key, [prefix + k for k in target])
        is_group = key in target and isinstance(target[key], ml_collections.ConfigDict)
        if is_group and value is not None:
            if f"{prefix}{key}" in OPEN_GROUPS:
                target[key] = ml_collections.ConfigDict(value)
            else:
                _update(target[key], value, f"{prefix}{key}.")
        else:
            with target.ignore_type():
                target[key] = value

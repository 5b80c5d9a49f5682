"""Planted mistakes in the layers and denoisers of images; as in test_mutations.py."""

import pytest

from tests.mutants import assert_caught, copy_project, parse, plant, run_tests

pytestmark = pytest.mark.slow

MUTATIONS = """
nn/image_ops.py: convolution by the transposed kernel
- stride), :] @ weight[i, j, ...]
+ stride), :] @ weight[j, i, ...]
> test_convolution_written_out

nn/image_ops.py: convolution's gradient by the transposed kernel
- += dy @ weight[i, j, ...].T
+ += dy @ weight[j, i, ...].T
> test_gradients_by_complex_step

nn/image_ops.py: convolution's gradient shifted by a row
- dpadded[:, r : r + height, r
+ dpadded[:, 0 : 0 + height, r
> test_gradients_by_complex_step

nn/image_ops.py: norm's gradient lacks the variance
- keepdims=True) - grouped * along)
+ keepdims=True))
> test_gradients_by_complex_step

nn/convolution.py: weights as if of one pixel
- math.sqrt(self.kernel**2 * self.inputs)
+ math.sqrt(self.inputs)
> test_convolution_init

nn/convolution.py: pooling forgets a row
- + x[:, 1::2, :, :]
+ + x[:, ::2, :, :]
> test_pool_and_upsample_written_out

nn/convolution.py: gain's gradient averaged
- xp.sum(dgain, axis=0)
+ xp.mean(dgain, axis=0)
> test_gradients_by_complex_step

nn/attention.py: scores overflow
- xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
+ xp.exp(scores)
> test_attention_with_scores_that_exp_cannot_hold

nn/attention.py: softmax's gradient lacks a term
- (dweights - xp.sum(dweights * weights, axis=-1, keepdims=True))
+ dweights
> test_gradients_by_complex_step

nn/conditioned.py: scale for 1 + scale
- 1.0 + rows
+ rows
> test_block_written_out

nn/conditioned.py: gradients of scale and shift swapped
- concat([dgain, dshift]
+ concat([dshift, dgain]
> test_gradients_by_complex_step

nn/conditioned.py: block's gradient forgets the skip
- return (dskipped + dh, dembedding)
+ return (dh, dembedding)
> test_gradients_by_complex_step

nn/conditioned.py: the embedding gets the gradient of the first block alone
- dembedding + own)
+ own)
> test_gradients_by_complex_step

nn/combinators.py: the embedding gets the gradient of the branch alone
- dz + dbranch_z), grads
+ dbranch_z), grads
> test_gradients_by_complex_step

nn/combinators.py: gradients of the embedding from behind a branch count twice
- (dh, 0.0), ops)
+ (dh, dz), ops)
> test_gradients_by_complex_step

nn/combinators.py: pair's gradient forgets the skip
- return (dh + dbranch, dz
+ return (dbranch, dz
> test_gradients_by_complex_step

nn/conditioned.py: last convolution does not start at 0
- self.outputs, gain=0.0)
+ self.outputs, gain=1.0)
> test_blocks_and_attention_start_as_nothing

nn/conditioned.py: labels off by one
- labels[:, None] ==
+ labels[:, None] == 1 +
> test_time_and_class_written_out

nn/conv_denoisers.py: U-Net forgets the way up
- (level, width), *up)
+ (level, width))
> test_unet_of_one_level_is_a_plain_network_with_twice_the_blocks

nn/conv_denoisers.py: no labels are the first class
- np.zeros(batch, dtype=np.int64)
+ np.ones(batch, dtype=np.int64)
> test_no_labels_are_no_class_and_labels_matter

nn/conv_denoisers.py: last class refused
- host.max() > classes
+ host.max() >= classes
> test_no_labels_are_no_class_and_labels_matter
"""
TESTS = "test_convolution.py"


@pytest.mark.parametrize("mutation", parse(MUTATIONS), ids=lambda m: f"{m.file}: {m.name}")
def test_mistake_is_caught(tmp_path, mutation):
    copy_project(tmp_path)
    plant(tmp_path / "ddpm_np" / mutation.file, mutation.right, mutation.wrong)
    assert_caught(*run_tests(tmp_path, f"{TESTS}::{mutation.test}"))


def test_without_a_mistake_all_is_well(tmp_path):
    copy_project(tmp_path)
    cited = {f"{TESTS}::{mutation.test}" for mutation in parse(MUTATIONS)}
    status, output = run_tests(tmp_path, *sorted(cited), profile="control")
    assert status == 0, output

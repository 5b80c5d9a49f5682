"""Planted mistakes: the tests of a module must fail when its mathematics is wrong.

Each mutation is one fragment of source that occurs exactly once, and a wrong replacement for
it, applied in a copy of the project; the named test must then fail there, and pass without.
"""

import shutil

import pytest

from tests.mutants import assert_caught, copy_project, parse, plant, run_tests

pytestmark = pytest.mark.slow

MUTATIONS = """
nn/ops.py: bias gradient dropped
- xp.sum(dy, axis=0)
+ 0.0 * xp.sum(dy, axis=0)
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: bias gradient averaged
- .sum(dy, axis=0)
+ .mean(dy, axis=0)
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: weight not transposed
- return dy @ weight.T
+ return dy @ weight
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: bias forgotten
- y += bias
+ y += 0.0 * bias
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: silu' with a wrong sign
- return y, gate + y
+ return y, gate - y
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: silu' lacks a term
- return y, gate + y * (1.0 - gate)
+ return y, gate
> test_ops.py::test_silu_against_mpmath

nn/ops.py: silu' from x for y
- gate + y * (1.0 - gate)
+ gate + x * (1.0 - gate)
> test_ops.py::test_silu_against_mpmath

nn/ops.py: sigmoid mirrored
- xp.exp(-x)
+ xp.exp(x)
> test_ops.py::test_silu_against_mpmath

nn/ops.py: network does not see the time
- silu(x @ params.weight + shift)
+ silu(x @ params.weight + params.bias)
> test_ops.py::test_residual_mlp_written_out

nn/ops.py: hidden layer is no residual
- h = h + change
+ h = change
> test_ops.py::test_residual_mlp_written_out

nn/ops.py: residual forgotten on the way back
- dh = dh + dbefore
+ dh = dbefore
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: slope of the layer before
- slopes[l + 1]
+ slopes[l]
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: weight's gradient from the layer's output
- before, weight = hidden[l]
+ before, weight = hidden[l + 1]
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: first slope forgotten
- silu_backward(dh, slopes[0])
+ silu_backward(dh, 1.0)
> test_layers.py::test_gradients_by_complex_step

nn/ops.py: time's gradient of one row for all
- dbias[None, :] if shared
+ dh[:1, :] if shared
> test_ops.py::test_the_loss_of_the_network_and_its_gradient

nn/image_ops.py: convolution in a corner
-     padded = _pad(x, k // 2)
+     padded = _pad(x, k - 1)
> test_ops.py::test_conv2d_written_out

nn/image_ops.py: convolution's gradient in a corner
- padded, flat = _pad(x, k // 2)
+ padded, flat = _pad(x, k - 1)
> test_ops.py::test_conv2d_backward_written_out

nn/image_ops.py: last row lost to the stride
- -(-x.shape[1] // stride)
+ x.shape[1] // stride
> test_ops.py::test_conv2d_written_out

nn/image_ops.py: stride of rows alone
- slice(j, right, stride)
+ slice(j, j + (right - j - 1) // stride + 1)
> test_ops.py::test_conv2d_written_out

nn/image_ops.py: image on its side
- slice(i, bottom, stride), slice(j, right, stride)
+ slice(j, bottom - i + j, stride), slice(i, right - j + i, stride)
> test_ops.py::test_conv2d_written_out

nn/image_ops.py: convolution without bias
-     y = bias
+     y = 0.0 * bias
> test_ops.py::test_conv2d_written_out

nn/image_ops.py: convolution's bias gradient averaged
- dweight, xp.sum(flat, axis=0)
+ dweight, xp.mean(flat, axis=0)
> test_ops.py::test_conv2d_backward_written_out

nn/image_ops.py: later gradients replace earlier ones
- dpadded[at] += dy
+ dpadded[at] = dy
> test_ops.py::test_conv2d_backward_written_out

nn/image_ops.py: mean of each channel
- xp.mean(grouped, axis=(1, 3)
+ xp.mean(grouped, axis=(1,)
> test_ops.py::test_group_norm_written_out

nn/image_ops.py: variance of each pixel
- xp.mean(centred * centred, axis=(1, 3)
+ xp.mean(centred * centred, axis=(3,)
> test_ops.py::test_group_norm_written_out

nn/image_ops.py: epsilon behind the root
- keepdims=True) + epsilon) ** -0.5
+ keepdims=True)) ** -0.5 + epsilon
> test_ops.py::test_group_norm_written_out

nn/image_ops.py: groups of channels far apart
- groups, x.shape[-1] // groups)
+ x.shape[-1] // groups, groups)
> test_ops.py::test_group_norm_written_out

nn/image_ops.py: norm's gradient lacks the gain
- _grouped(_per_channel(gain, dy) * dy, groups)
+ _grouped(dy, groups)
> test_ops.py::test_gradients_of_group_norm

nn/image_ops.py: norm's gradient lacks the mean
- dnormal - xp.mean(dnormal, axis=(1, 3), keepdims=True) -
+ dnormal -
> test_ops.py::test_gradients_of_group_norm

nn/image_ops.py: gain's gradient averaged
- xp.sum(dy * normal, axis=middle)
+ xp.mean(dy * normal, axis=middle)
> test_ops.py::test_gradients_of_group_norm

nn/ops.py: squared error's factor 2
- (2.0 / math.prod(error.shape))
+ (1.0 / math.prod(error.shape))
> test_ops.py::test_the_loss_of_the_network_and_its_gradient

nn/ops.py: squared error's gradient unweighted
- weighted * (2.0
+ error * (2.0
> test_ops.py::test_the_loss_of_the_network_and_its_gradient

nn/ops.py: adam without bias correction
- (rate / (1.0 - beta_1**step))
+ rate
> test_ops.py::test_adam_against_the_formula_of_torch

nn/ops.py: adam without root
- array_namespace(v).sqrt(v)
+ v
> test_optimizers.py::test_adam_written_out_over_some_steps

nn/ops.py: weight decay grows
- (1.0 - rate * decay) * param -
+ (1.0 + rate * decay) * param -
> test_optimizers.py::test_adam_written_out_over_some_steps

nn/ops.py: ema decay swapped
- return decay * average + (1.0 - decay) * value
+ return (1.0 - decay) * average + decay * value
> test_optimizers.py::test_ema_converges_geometrically

nn/combinators.py: residual gradient dropped
- return dy + dx, grads
+ return dx, grads
> test_layers.py::test_gradients_by_complex_step

nn/combinators.py: serial gradients in reverse
- tuple(reversed(grads))
+ tuple(grads)
> test_layers.py::test_gradients_by_complex_step

nn/denoisers.py: weights as if of their outputs
- math.sqrt(shape[-2])
+ math.sqrt(shape[-1])
> test_layers.py::test_denoiser_init

nn/layers.py: embedding of the time before
- rows.take(t, axis=0)
+ rows.take(t - 1, axis=0)
> test_layers.py::test_denoiser_written_out

nn/layers.py: embedding of the time before, for all
- rows[t : t + 1].copy()
+ rows[t - 1 : t].copy()
> test_layers.py::test_int_t_is_the_same_for_every_example

nn/layers.py: embedding shared with the table
- rows[t : t + 1].copy()
+ rows[t : t + 1]
> test_layers.py::test_embedding_goes_where_x_is

nn/layers.py: time embedding not rescaled
- angles = (1000.0 / T) *
+ angles = 1.0 *
> test_layers.py::test_time_embedding_written_out

nn/layers.py: weights too small
- math.sqrt(self.inputs)
+ self.inputs
> test_layers.py::test_linear_init

nn/optimizers.py: learning rate off by one
- self.rate(state.step)
+ self.rate(state.step + 1)
> test_optimizers.py::test_adam_written_out_over_some_steps

nn/optimizers.py: clipping the wrong way round
- xp.where(norm > limit
+ xp.where(norm < limit
> test_optimizers.py::test_clipping

nn/optimizers.py: norm without root
- return xp.sqrt(total)
+ return total
> test_optimizers.py::test_global_norm

nn/optimizers.py: half of the cosine
- math.cos(math.pi *
+ math.cos(0.5 * math.pi *
> test_optimizers.py::test_decays_at_their_ends

nn/tree.py: layout off by one
- flat[tree.start : tree.stop]
+ flat[tree.start - 1 : tree.stop - 1]
> test_optimizers.py::test_ravel_and_unravel

nn/denoisers.py: loss gradient with a wrong sign
- ops.squared_error(prediction, truth, weight)
+ ops.squared_error(truth, prediction, weight)
> test_training.py::test_the_loss_and_its_gradient_are_those_of_the_definition

nn/denoisers.py: kernels of one's own bypassed
- loss_and_gradient(denoiser, params, x_t, t, labels, truth, weight, ops)
+ loss_and_gradient(denoiser, params, x_t, t, labels, truth, weight, type(ops)())
> test_training.py::test_ctrl_c_within_a_step_does_not_half_take_it

nn/ops.py: the loss of the network unweighted
- squared_error(y, truth, loss_weight)
+ squared_error(y, truth, 1.0)
> test_ops.py::test_the_loss_of_the_network_and_its_gradient

training.py: share of a part forgotten
- share = x.shape[0] / size
+ share = 1.0
> test_training.py::test_a_step_in_parts_is_the_step

training.py: share forgotten where times have weights
- coefficient(share * recipe.weight[times], x)
+ coefficient(recipe.weight[times], x)
> test_training.py::test_a_part_has_the_times_noise_and_weights_of_its_own_rows

training.py: every part has the first times
- t[rows]
+ t[: rows.stop - rows.start]
> test_training.py::test_a_step_in_parts_is_the_step

training.py: every part has the first labels
- else labels[rows]
+ else labels[: rows.stop - rows.start]
> test_training.py::test_labels_go_to_the_denoiser

training.py: every part has the first truth
- truth[rows, ...]
+ truth[: rows.stop - rows.start, ...]
> test_training.py::test_a_step_in_parts_is_the_step

nn/denoisers.py: a subclass trained by the kernel of its parent
- type(denoiser) is not MLPDenoiser
+ not isinstance(denoiser, MLPDenoiser)
> test_layers.py::test_networks_around_this_one_go_by_their_own_forward

nn/denoisers.py: labels unread
- if labels is not None:
+ if labels is ...:
> test_layers.py::test_a_network_without_classes_refuses_labels

nn/ops.py: a prediction keeps what only backward needs
- keep=False))
+ keep=True))
> test_layers.py::test_a_prediction_alone_is_that_of_forward

training.py: gradient of the last part
- gradient += more_gradient
+ gradient = more_gradient
> test_training.py::test_a_step_in_parts_is_the_step

training.py: loss of the last part
- loss = loss + more_loss
+ loss = more_loss
> test_training.py::test_a_step_in_parts_is_the_step

runs/batches.py: labels kept and lost the wrong way round
- np.where(kept, labels[rows], 0)
+ np.where(kept, 0, labels[rows])
> test_training.py::test_labels_are_those_of_the_examples_or_none

runs/batches.py: every block is the same
- generator(seed, TRAIN, block)
+ generator(seed, TRAIN, 0)
> test_training.py::test_batches_do_not_depend_on_the_order_in_which_they_are_asked_for

runs/evaluation.py: every part has the first labels
- else labels[rows]
+ else labels[: rows.stop - rows.start]
> test_training.py::test_predictor_hands_labels_on

runs/evaluation.py: every part has the first times
- else t[rows]
+ else t[: rows.stop - rows.start]
> test_training.py::test_predictor_in_parts_is_the_whole

training.py: average lags a step
- ops.ema(state.average, params
+ ops.ema(state.average, state.params
> test_training.py::test_the_average_moves_by_the_decay_and_starts_at_the_parameters

runs/batches.py: t = T never trained
- rng.integers(1, T + 1,
+ rng.integers(1, T,
> test_training.py::test_a_batch_holds_examples_uniform_times_and_normal_noise

forward.py: (27) as M1 prints it, variance for its root
- cast(schedule.sqrt_one_minus_alpha_bar[t], noise)
+ cast(schedule.one_minus_alpha_bar[t], noise)
> test_forward.py::test_drawn_steps_compose_to_the_whole

forward.py: one step adds beta
- c(np.sqrt(schedule.beta[t])) * noise
+ c(schedule.beta[t]) * noise
> test_forward.py::test_drawn_steps_compose_to_the_whole

forward.py: two steps lack alpha
- beta[t] + alpha[t] * beta[t - 1]
+ beta[t] + beta[t - 1]
> test_forward.py::test_two_steps_are_two_steps

schedules/tables.py: (26) with alpha_bar
- from_1(np.sqrt(self.alpha[1:])
+ from_1(np.sqrt(self.alpha_bar[1:])
> test_posterior.py::test_posterior_is_bayes_rule

schedules/tables.py: (26) off by one
- from_1(self.sqrt_alpha_bar[:-1]
+ from_1(self.sqrt_alpha_bar[1:]
> test_posterior.py::test_posterior_is_bayes_rule

targets.py: (28) with a wrong sign
- x_t - ratio * eps
+ x_t + ratio * eps
> test_targets.py::test_conversions_invert_the_draw

posterior.py: (29) without root
- schedule.beta[t] / schedule.sqrt_one_minus_alpha_bar[t] / root_alpha
+ schedule.beta[t] / schedule.one_minus_alpha_bar[t] / root_alpha
> test_posterior.py::test_29_is_26_after_28

targets.py: v with a wrong sign
- cast(signal, x0) * eps -
+ cast(signal, x0) * eps +
> test_targets.py::test_conversions_invert_the_draw

reverse.py: beta for beta_tilde
- table = schedule.posterior_variance.copy()
+ table = schedule.beta.copy()
> test_reverse.py::test_variances_of_the_linear_schedule

reverse.py: sigma_1 is 0
- table[1] = table[2] if T > 1 else
+ table[1] = table[1] if T > 1 else
> test_reverse.py::test_variances_of_the_linear_schedule

gaussians.py: log-density lacks log variance
- + (xp.log(variance) + LOG_2PI)
+ + LOG_2PI
> test_gaussians.py::test_log_density_is_scipys

gaussians.py: KL divides by the wrong variance
- log_ratio) + (mean_1 - mean_2) ** 2 / var_2
+ log_ratio) + (mean_1 - mean_2) ** 2 / var_1
> test_gaussians.py::test_kl_1d_by_quadrature

gaussians.py: (37) lacks a square
- return a * b, s2 + t2 * a**2
+ return a * b, s2 + t2 * a
> test_gaussians.py::test_lemma_37_by_quadrature

elbo.py: L_T with a wrong sign
- return 0.0 - kl_isotropic_unchecked(mean, variance,
+ return 0.0 + kl_isotropic_unchecked(mean, variance,
> test_elbo.py::test_prior_term_is_the_formula

elbo.py: bound lacks L_T
- L_T + xp.sum(L, axis=0) + L_0)
+ xp.sum(L, axis=0) + L_0)
> test_elbo.py::test_terms_and_their_sum

elbo.py: KL to the wrong mean
- -kl_isotropic_unchecked(mean_1, var_1, mean,
+ -kl_isotropic_unchecked(x0, var_1, mean,
> test_elbo.py::test_terms_and_their_sum

losses.py: (35) as printed, without alpha
- (schedule.alpha[t] * schedule.one_minus_alpha_bar[t])
+ schedule.one_minus_alpha_bar[t]
> test_losses.py::test_weighted_loss_is_the_middle_term

losses.py: (35) lacks a square
- schedule.beta[t] ** 2
+ schedule.beta[t]
> test_losses.py::test_weighted_loss_is_the_middle_term

losses.py: x0 weight lacks a square
- half_precision * schedule.c_x0[t] ** 2
+ half_precision * schedule.c_x0[t]
> test_losses.py::test_weighted_loss_is_the_middle_term

losses.py: v weight is that of eps
- weight * schedule.one_minus_alpha_bar[check_times
+ weight * schedule.alpha_bar[check_times
> test_losses.py::test_weighted_loss_is_the_middle_term

losses.py: constant with a wrong sign
- (excess - log_ratio)
+ (excess + log_ratio)
> test_losses.py::test_weighted_loss_is_the_middle_term

losses.py: constant loses its digits near the posterior variance
- np.log1p(np.maximum(excess, -0.5))
+ np.log(np.maximum(ratio, 0.5))
> test_losses.py::test_constant_near_the_posterior_variance

targets.py: one good time is enough
- np.all(c_x0 > 0.0)
+ np.any(c_x0 > 0.0)
> test_targets.py::test_errors_where_alpha_bar_is_too_small

decoders.py: a level below the lowest
- clamp(k, 0.0, self.levels - 1.0)
+ clamp(k, -1.0, self.levels - 1.0)
> test_discretised.py::test_refuses_data_off_the_grid

decoders.py: a level above the highest
- clamp(k, 0.0, self.levels - 1.0)
+ clamp(k, 0.0, self.levels)
> test_discretised.py::test_refuses_data_off_the_grid

data/baselines.py: one round fewer
- range(rounds)
+ range(max(rounds - 1, 1))
> test_baselines.py::test_rounds_of_expectation_maximisation_written_out

data/baselines.py: images of 256 pixels left out
- > LARGEST_IMAGE
+ >= LARGEST_IMAGE
> test_baselines.py::test_the_limits_of_size_are_the_last_that_fit

data/normal_mixtures.py: one round of refitting fewer
- rounds", rounds, 0)
+ rounds", rounds, 0) - 1
> test_baselines.py::test_a_round_of_refitting_written_out

exact/_quantiles.py: always the lower tail
- (1.0, below <= above, below), (-1.0, below > above, above)
+ (1.0, below <= 0.0, below), (-1.0, below > 0.0, above)
> test_quantiles.py::test_flow_at_40_digits

exact/_quantiles.py: Newton's method without a bracket
- new = np.where(safe, new, 0.5 * (low[todo] + high[todo]))
+ new = np.where(np.isfinite(new), new, 0.5 * (low[todo] + high[todo]))
> test_quantiles.py::test_quantiles_beside_a_gap

exact/_quantiles.py: no slack
- slack = 1e-11 * np.abs(far) + EPS
+ slack = 0.0 * np.abs(far) + EPS
> test_quantiles.py::test_flow_of_one_component_is_linear_in_any_dimension

exact/gaussian_data.py: flow by variances
- np.sqrt(self.variances / variances))
+ self.variances / variances)
> test_gaussian_data.py::test_flow_is_linear_and_carries_one_law_to_the_other

exact/linear_samplers.py: standard deviations added
- variances = np.sum(answers**2, axis=0)
+ variances = np.sum(np.abs(answers), axis=0) ** 2
> test_linear_samplers.py::test_laws_are_those_of_a_scalar_recursion

exact/linear_samplers.py: as far along each axis
- * rng.uniform(0.5, 1.0, shape)
+ * 1.0
> test_linear_samplers.py::test_a_sampler_of_another_law_is_refused

gaussians.py: Wasserstein's rotation the other way
- factor_2 @ left @ right
+ factor_2 @ (left @ right).T
> test_gaussians.py::test_wasserstein2_is_the_formula

identities/information.py: what lies below the least signal
- total = least * (d - variance)
+ total = 0.0
> test_information.py::test_mmse_gives_the_entropy

identities/information.py: variable without its slope
- (1.0 + s2 * signal / noise)
+ 1.0
> test_information.py::test_mmse_gives_the_entropy

identities/information.py: singular for wide laws
- min(1.0, mixture.std**2)
+ mixture.std**2
> test_information.py::test_one_gaussian_in_closed_form

exact/mixtures.py: Fisher information in standard deviations
- score**2)) for p, _, score in cells) / self.std**2
+ score**2)) for p, _, score in cells)
> test_information.py::test_fisher_information_of_a_gaussian

losses.py: bound's loss lacks T
- weight = schedule.T * bound_weight(
+ weight = bound_weight(
> test_losses.py::test_expected_loss_is_the_bound

schedules/tables.py: alpha_bar without logarithm
- np.log1p(-keeps)
+ -keeps
> test_schedules.py::test_tables_to_the_last_digits

schedules/tables.py: one good time is enough for eps
- np.any(schedule.alpha[t] == 0.0)
+ np.all(schedule.alpha[t] == 0.0)
> test_zero_terminal.py::test_eps_is_refused_at_T

schedules/zero_terminal.py: one of two roots
- share * (2.0 - share)
+ share
> test_zero_terminal.py::test_follows_lin_et_al

targets.py: eps for all chains
- schedule.alpha[-1] == 0.0
+ schedule.alpha[-1] < 0.0
> test_zero_terminal.py::test_eps_is_refused_for_the_chain

schedules/tables.py: beta for beta_tilde (25)
- from_1(before / now * beta[1:])
+ from_1(beta[1:])
> test_schedules.py::test_tables_to_the_last_digits

schedules/named.py: ramp does not reach its end
- / max(steps - 1, 1)
+ / steps
> test_schedules.py::test_tables_to_the_last_digits

schedules/named.py: cosine without offset
- 2.0 * offset) * quarter
+ offset) * quarter
> test_schedules.py::test_tables_to_the_last_digits

flow.py: Euler's method
- d = slope(x, s) if s > 0 else xp.zeros_like(x0)
+ d = xp.zeros_like(x0)
> test_flow.py::test_linear_networks_step_by_step

flow.py: noise at s = 0
- d = slope(x, s) if s > 0 else xp.zeros_like(x0)
+ d = slope(x, max(s, 1))
> test_flow.py::test_linear_networks_step_by_step

flow.py: divergence by x_t for that by y
- c(signal[t]) * _checked("divergence"
+ _checked("divergence"
> test_flow.py::test_exact_to_second_order_and_extrapolated_to_1e_6

flow.py: no trapezoid
- integral + 0.5 * step * (rate_before + rate)
+ integral + step * rate
> test_flow.py::test_exact_to_second_order_and_extrapolated_to_1e_6

flow.py: volume forgotten
- return log_p + volume + integral
+ return log_p + integral
> test_flow.py::test_exact_to_second_order_and_extrapolated_to_1e_6

flow.py: sign of the integral
- return log_p + volume + integral
+ return log_p + volume - integral
> test_flow.py::test_exact_to_second_order_and_extrapolated_to_1e_6

flow.py: the prior of x_0
- prior(x), x0)
+ prior(x0), x0)
> test_flow.py::test_the_prior_is_asked_once_for_x_T

flow.py: divergence of the prediction for that of the noise
- return lambda v: predicted_eps_unchecked(schedule, sum_features(v * v), t, product(v), target)
+ return product
> test_flow.py::test_every_target_says_the_same

flow.py: a one-sided difference
- above, below = x_t + step * v, x_t - step * v
+ above, below = x_t + step * v, x_t
> test_flow.py::test_divergence_of_a_network_is_the_trace_of_its_jacobian

flow.py: one product too few
- for j in range(d):
+ for j in range(d - 1):
> test_flow.py::test_divergence_of_a_network_is_the_trace_of_its_jacobian

flow.py: a probe is not multiplied from both sides
- sum_features(pullback(v) * v)
+ sum_features(pullback(v))
> test_flow.py::test_hutchinson_over_all_signs

data/images.py: bins not centred on their levels
- scale(images + (u - 0.5), levels, dtype)
+ scale(images + u, levels, dtype)
> test_images.py::test_dequantised_densities_bound_the_mass_of_a_bin

data/images.py: bins of 2 / levels
- * math.log(2.0 / top)
+ * math.log(2.0 / (top + 1))
> test_images.py::test_256_equal_levels_cost_8_bits_dequantised

runs/evaluation.py: the first part's cache for all
- caches[rows.start], v[rows
+ caches[0], v[rows
> test_flow.py::test_backends_in_float32_agree_in_parts_of_the_batch

samplers.py: noise at t = 1
- if t > 1:
+ if t >= 1:
> test_samplers.py::test_noise_and_network_are_asked_for_in_order

samplers.py: variance for its root
- math.sqrt(variances[t])
+ variances[t]
> test_samplers.py::test_each_step_is_the_models

samplers.py: variance off by one
- math.sqrt(variances[t])
+ math.sqrt(variances[t - 1])
> test_samplers.py::test_each_step_is_the_models

samplers.py: DDIM with all noise kept
- (1.0 - eta**2) * before + eta**2
+ (1.0 - eta) * before + eta**2
> test_fast_samplers.py::test_ddim_keeps_the_marginals

samplers.py: DDIM steps to where it is
- short.sqrt_alpha_bar[i - 1]
+ short.sqrt_alpha_bar[i]
> test_fast_samplers.py::test_the_algorithm_is_the_printed_one

samplers.py: DDIM with noise in its last step
- eta > 0.0 and i > 1
+ eta > 0.0 and i > 0
> test_fast_samplers.py::test_network_and_noise_are_asked_at_the_visited_times

samplers.py: DDIM asks at the short chain's times
- prediction = ask(predict, x, t)
+ prediction = ask(predict, x, i)
> test_fast_samplers.py::test_network_and_noise_are_asked_at_the_visited_times

samplers.py: r upside down
- 0.5 * h[1:-1] / h[2:]
+ 0.5 * h[2:] / h[1:-1]
> test_fast_samplers.py::test_the_algorithm_is_the_printed_one

samplers.py: second order extrapolates backwards
- c(1.0 + half[i - 1]) * x0 - c(
+ c(1.0 - half[i - 1]) * x0 + c(
> test_fast_samplers.py::test_order_of_convergence_at_t_1

samplers.py: Heun looks ahead at t
- (y + step * d), s))
+ (y + step * d), t))
> test_fast_samplers.py::test_the_algorithm_is_the_printed_one

samplers.py: Heun without its average
- d = 0.5 * (d + slope
+ d = 1.0 * (0.0 * d + slope
> test_fast_samplers.py::test_the_algorithm_is_the_printed_one

flow.py: inversion asks at the time before
- def move(x: Array, t: int = t
+ def move(x: Array, t: int = max(s, 1)
> test_fast_samplers.py::test_inversion_finds_what_ddim_started_from

schedules/respacing.py: beta of the long chain
- np.where(single, schedule.beta[t], -np.expm1(log_alpha))
+ schedule.beta[t]
> test_schedules.py::test_a_respaced_chain_has_the_marginals_of_the_long_one

guidance.py: the short chain's time
- visits[check_times(t, S, x_t.shape[0]) - 1]
+ visits[check_times(t, S, x_t.shape[0]) - 2]
> test_fast_samplers.py::test_a_respaced_predictor_asks_at_the_long_chains_times

samplers.py: trajectory backwards
- path[::-1]
+ path
> test_samplers.py::test_each_step_is_the_models
"""


@pytest.mark.parametrize("mutation", parse(MUTATIONS), ids=lambda m: f"{m.file}: {m.name}")
def test_mistake_is_caught(tmp_path, mutation):
    copy_project(tmp_path)
    plant(tmp_path / "ddpm_np" / mutation.file, mutation.right, mutation.wrong)
    assert_caught(*run_tests(tmp_path, mutation.test))


def test_without_a_mistake_all_is_well(tmp_path):
    """Else a failure would be that of the copy. One example each: the suite itself has the others."""
    copy_project(tmp_path)
    cited = {mutation.test for mutation in parse(MUTATIONS)}
    status, output = run_tests(tmp_path, *sorted(cited), profile="control")
    assert status == 0, output


def test_a_package_that_is_not_the_copy_is_no_verdict(tmp_path):
    copy_project(tmp_path)
    shutil.move(tmp_path / "ddpm_np", tmp_path / "elsewhere" / "ddpm_np")
    (tmp_path / "probe.py").write_text(
        f"import sys; sys.path.append({str(tmp_path / 'elsewhere')!r})\n"
        + (tmp_path / "probe.py").read_text()
    )
    assert run_tests(tmp_path, "test_ops.py")[0] == 9


def test_what_is_no_verdict(tmp_path):
    """A fragment that is not there once, a run without a failure, a failure without a name."""
    path = tmp_path / "source.py"
    path.write_text("a = 1\nb = 1\n")
    for fragment in ("c", "= 1"):
        with pytest.raises(AssertionError, match=r"must occur once in source\.py"):
            plant(path, fragment, "")
    plant(path, "a = 1", "a = 2")
    assert path.read_text() == "a = 2\nb = 1\n"
    assert_caught(1, "FAILED tests/test_a.py::test_b - AssertionError")
    for status, output in ((0, "1 passed"), (2, "FAILED tests/test_a.py"), (1, "no tests ran")):
        with pytest.raises(AssertionError):
            assert_caught(status, output)

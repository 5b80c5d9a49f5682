"""Help with writing an adapter: where random numbers come from, and adapters that are ready.

=====================  ===========================================================================
``draws``              what to draw: arrays in order, or a generator's numbers
``numpy_code``         code that draws from ``numpy.random``
``pytorch``            code that draws from PyTorch; tensors; classes with the usual attribute names
``jax``                code that draws from ``jax.random``
``diffusers``          diffusers' DDPMScheduler and DDIMScheduler
=====================  ===========================================================================

The last three import their library; ``Reference`` is ddpm_np itself.
"""

from ddpm_np.testing.adapters.draws import DrawError, Draws, from_arrays, from_generator, loop_draws
from ddpm_np.testing.adapters.reference import Reference

__all__ = ["DrawError", "Draws", "Reference", "from_arrays", "from_generator", "loop_draws"]

"""Pictures that were changed on purpose: pixels removed, corrupted or turned, and control maps.

Pure functions on tensors. Pixels lie in [0, 1]; results have the dtype and the device of the
input, which is never modified. Whatever is random is drawn on the CPU, from a seed that is handed
in, so that every device sees the same values.
"""

"""Operations in f32 for batches: packed positions, register tiles, heads side by side, functions of our own."""

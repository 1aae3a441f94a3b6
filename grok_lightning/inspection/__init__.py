"""What a trained network looks like inside: arrays, pictures, and one page of them."""

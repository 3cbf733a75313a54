"""Published weights in and out: each library's names and shapes, translated to ours and back."""

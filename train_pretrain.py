"""Stage one: pretrain the generator with L1 on Lab's a and b channels.

python train_pretrain.py                                     # small and short, on embedded photographs
python train_pretrain.py --data ~/photographs --size 256 --out checkpoints/mine
"""

import sys

from gan_color.__main__ import main

if __name__ == "__main__":
    main(["pretrain", *sys.argv[1:]], program="train_pretrain.py")

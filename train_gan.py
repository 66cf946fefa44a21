"""Stage two: train the generator of stage one against a PatchGAN with GAN + lambda * L1.

python train_gan.py                                          # goes on from checkpoints/pretrain
python train_gan.py --generator checkpoints/mine --data ~/photographs --size 256
"""

import sys

from gan_color.__main__ import main

if __name__ == "__main__":
    main(["gan", *sys.argv[1:]], program="train_gan.py")

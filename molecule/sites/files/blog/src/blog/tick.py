import os
import time

print("ticks as", os.environ["DB_USER"], flush=True)
time.sleep(1e6)

"""moto's S3 server, with one PUT at a time.

moto 5.2 looks whether the object of a conditional create is there, and stores it some lines later,
without a lock between (`moto/s3/responses.py`, `put_object`), in a server with a thread for each
request: of 16 plain HTTP clients that raced 300 times on a busy machine, two won once. A store that
the vault may use doesn't do that; so the test's server takes its PUTs in turn.
"""

import threading

from moto.s3.responses import S3Response
from moto.server import main

in_turn = threading.Lock()
plain_put_object = S3Response.put_object


def put_object(self):
    with in_turn:
        return plain_put_object(self)


S3Response.put_object = put_object

if __name__ == "__main__":
    main()

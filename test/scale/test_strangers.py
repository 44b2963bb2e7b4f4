"""Strangers at the door, and a client that never reads: the others go on, and who talks garbage is cut."""
import pytest

from .rig import Controller, Deaf, Peers, Strangers, peers_program

pytestmark = pytest.mark.skipif(not peers_program(), reason="scale-peers has not been built (ninja -C build)")


def test_strangers_and_a_deaf_client_hold_nobody_up():
    with Controller() as controller, Peers(controller) as peers:
        peers.ask("engines unix 2")
        peers.ask("client unix")
        peers.ask("tasks 1000 100")
        before = controller.memory()
        crowd = ("unix-idle=300", "tcp-idle=100", "unix-garbage=30", "tcp-garbage=30", "tcp-tls=10", "unix-wrong=10", "unix-half=20")
        strangers = Strangers(controller, *crowd)
        with Deaf(controller, 100_000):
            for _ in range(3):
                assert peers.ask("roundtrips 500")["round_trips"] == 500
                for kind in ("unix", "tls"):
                    with Peers(controller) as newcomer:
                        newcomer.ask(f"client {kind}")
                        assert newcomer.ask("tasks 100 10")["tasks"] == 100
            assert peers.ask("tasks 20000 4096")["tasks"] == 20_000
            assert controller.memory() - before < 200 << 20
        said = strangers.stop()
        assert said["closed"] > 80 and said["came"] > 500, said  # each that spoke was closed
        assert peers.ask("count") == {"engines": 2, "lost": 0}

"""A thousand engines (simulated: test/scale/engines.c) with the controller's default settings."""
import pytest

import covey as ipp

from ..waiting import looks
from .rig import Controller, Peers, descriptors, peers_program, wait_until

pytestmark = pytest.mark.skipif(not peers_program(), reason="scale-peers is not built (`make test` builds it)")


def memory_of_engines(controller, kind, n, bound):
    """Bytes of the controller's memory for each of n more engines; the process that simulates them.

    At rest: what handshakes needed goes back to the kernel a second after so many.
    """
    with Peers(controller) as first:
        first.ask(f"engines {kind} 20")  # what is made once is there
    wait_until(lambda: descriptors(controller.pid) < 40, 60, "the first engines' connections have not ended")
    before = controller.memory()
    peers = Peers(controller)
    peers.ask(f"engines {kind} {n}")

    def each():
        return (controller.memory() - before) / n

    for _ in looks(20):
        if each() <= bound:
            break
    return each(), peers


def test_a_thousand_engines_join_and_none_is_lost():
    with Controller(soft_limit=256) as controller:
        each, peers = memory_of_engines(controller, "unix", 1000, 2048)
        with peers:
            peers.ask("client unix")
            assert peers.ask("tasks 20000 4096")["tasks"] == 20000
            assert peers.ask("broadcast")["targets"] == 1000
            rc = ipp.Client(controller.client_file)
            try:
                assert len(rc.ids) >= 1000
                view = rc[-1000:]
                assert view.apply_sync(abs, -1) == [None] * 1000  # what simulated engines answer
            finally:
                rc.close()
            assert peers.ask("count") == {"engines": 1000, "lost": 0}
        assert each <= 2048, f"{each:.0f} bytes of the controller's memory for each engine"


@pytest.mark.parametrize("kind", ["tls", "relay"])
def test_engines_of_other_machines(kind):
    with Controller() as controller:
        each, peers = memory_of_engines(controller, kind, 200, 24 * 1024)
        with peers:
            peers.ask("client tls")
            assert peers.ask("broadcast")["targets"] == 200
            assert peers.ask("count") == {"engines": 200, "lost": 0}
        assert each <= 24 * 1024, f"{each:.0f} bytes of the controller's memory for each engine"

"""Watching long tasks: data that they publish on the way, and a line of what all are at."""
import time

import covey as ipp


def train(steps):
    import time

    from covey.datapub import publish_data

    loss = 1.0
    for i in range(steps):
        loss *= 0.7
        publish_data({"step": i + 1, "loss": loss})
        time.sleep(0.02)
    return loss


def main(rc):
    ar = rc[:].apply_async(train, 10)
    seen = set()
    while not ar.ready():
        seen.update(d["step"] for d in ar.data if d)
        time.sleep(0.01)
    print("steps seen on the way:", bool(seen), "last:", [d["step"] for d in ar.data])
    print("losses:", [round(x, 3) for x in ar.get()])

    ar = rc.load_balanced_view().map_async(time.sleep, [0.01] * 20)
    ar.wait_interactive()                                # a bar with rate and time left
    print("items done:", ar.progress, "of", len(ar))


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

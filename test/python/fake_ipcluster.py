#!/usr/bin/env python3
"""Plays `ipcluster start` by docs/internals.md: events, cluster file, control socket. No controller, no engines.

FAKE_MODE: ok (default), fail (says failed), die (exit 3 without a word), slow (never ready), deaf (ignores stop and TERM).
"""
import json
import os
import signal
import socket
import sys
import threading


def main():
    args = dict(a[2:].partition("=")[::2] for a in sys.argv[1:] if a.startswith("--") and "=" in a)
    mode = os.environ.get("FAKE_MODE", "ok")
    events = os.fdopen(int(os.environ["COVEY_EVENTS_FD"]), "w", buffering=1)
    folder, id = args["profile-dir"], args["cluster-id"]
    os.makedirs(os.path.join(folder, "security"), exist_ok=True)
    cluster_file = os.path.join(folder, "security", f"cluster-{id}.json")
    client_file = os.path.join(folder, "security", f"ipcontroller-{id}-client.json")
    n = int(args.get("n", 3))
    stopping = threading.Event()
    if mode != "deaf":
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def say(event, **fields):
        try:
            events.write(json.dumps({"event": event, **fields}) + "\n")
        except OSError:
            pass

    print("a line for people", file=sys.stderr, flush=True)
    say("starting", n=n, why_n="asked", threads=1)
    if mode == "fail":
        say("failed", why="engine 1 of 2 could not start", stderr="ImportError: no numpy")
        return 1
    if mode == "die":
        print("the port 4711 is in use", file=sys.stderr, flush=True)
        return 3
    control = f"covey-cluster-test-{os.getpid()}"
    with open("/proc/self/stat") as f:
        start = int(f.read().rsplit(")", 1)[1].split()[19])
    state = {"class": "covey.cluster.Cluster", "cluster_id": id, "profile_dir": folder, "pid": os.getpid(), "pid_start": start,
             "control": "@" + control, "controller": {"class": "Local", "pid": os.getpid(), "pid_start": start},
             "engines": {"first": {"class": "Local", "n": n, "pid": os.getpid(), "pid_start": start}} if n else {},
             "client_file": client_file, "engine_file": "", "argv": sys.argv[1:], "asked": []}

    def save():
        with open(cluster_file + ".new", "w") as f:
            json.dump(state, f)
        os.replace(cluster_file + ".new", cluster_file)

    save()
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0" + control)
    s.listen()
    say("progress", ready=1, asked=n)
    if mode != "slow":
        say("ready", n=n, cluster_file=cluster_file, client_file=client_file)

    def serve():
        while True:
            peer, _ = s.accept()
            with peer, peer.makefile("rw") as f:
                request = json.loads(f.readline())
                state["asked"].append(request)
                answer = {"ok": None}
                if request["do"] == "start_engines":
                    state["engines"][request["id"]] = {"class": "Local", "n": request.get("n"), "pid": 1, "pid_start": 1}
                    answer = {"ok": {"id": request["id"]}}
                elif request["do"] == "stop_engines":
                    state["engines"].pop(request["id"])
                elif request["do"] == "signal_engines" and request["signal"] == 99:
                    answer = {"error": "no such signal"}
                save()
                f.write(json.dumps(answer) + "\n")
                f.flush()
                if request["do"] == "stop" and mode != "deaf":
                    stopping.set()

    threading.Thread(target=serve, daemon=True).start()
    while not stopping.wait(0.05):
        if "parent-pid" in args and not os.path.exists(f"/proc/{args['parent-pid']}"):
            break
    say("stopping", reason="asked")
    os.unlink(cluster_file)
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

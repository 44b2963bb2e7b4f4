# Engines find the controller by the files that are mounted at /cluster.
c = get_config()  # noqa: F821
c.IPEngine.url_file = "/cluster/ipcontroller-engine.json"
c.IPEngine.sshkey = "/cluster/id_rsa"

# On `local`: the controller runs on `remote`, started by ssh, and so does `ipcluster engines`, which asks the profile there how.
c = get_config()  # noqa: F821
c.Cluster.n = 4
c.Cluster.controller_launcher_class = "ssh"
c.Cluster.engine_launcher_class = "sshproxy"
c.Cluster.controller_args = ["--ip=*"]
c.SSHControllerLauncher.hostname = "remote"
c.SSHProxyEngineSetLauncher.hostname = "remote"

# SPDX-License-Identifier: BSD-3-Clause
"""The configurations that people have published for clusters over ssh, with our machines' names in them."""

SNET_CLUSTER = """\
c.IPClusterEngines.engine_launcher_class = 'SSH'
c.IPClusterStart.controller_launcher_class = 'Local'
c.LocalControllerLauncher.controller_args = ["--ip=*"]
c.IPClusterStart.controller_location = '{ip}'
c.SSHLauncher.hostname = '{here}'
c.SSHEngineSetLauncher.engines = {{'host1.example.com' : 2, '{here}': 4}}
"""

SNET_CONTROLLER = """\
c.HubFactory.client_ip = '{ip}'
"""

BLOG_CLUSTER = """\
c.IPClusterEngines.engine_launcher = \\
'IPython.parallel.apps.launcher.SSHEngineSetLauncher'


c.SSHEngineSetLauncher.engines = {{
    'demo@{address}' : (2, ['--profile_dir=/srv/demo/to/profile'])
    }}
"""

BLOG_CONTROLLER = """\
c.HubFactory.ip = '*'
"""

# In the image of the engines and clients: the profile `ssh`, whose files and key are mounted at /cluster.
CLUSTER_ENGINE = """\
c = get_config()
c.IPEngine.url_file = '{cluster}/ipcontroller-engine.json'
c.IPEngine.sshkey = '{cluster}/id_rsa'
"""

DAINT_SBATCH = """\
#!/bin/bash -l
#SBATCH --job-name=ipcluster
#SBATCH --nodes=2
#SBATCH --ntasks-per-node 2
#SBATCH --time=00:20:00
#SBATCH --output ipcluster-log-%J.out

profile=job_${SLURM_JOB_ID}
echo "creating profile: ${profile}"
ipython profile create ${profile}

echo "Launching controller"
ipcontroller --ip="*" --profile=${profile} &
sleep 10

echo "Launching engines"
srun ipengine --profile=${profile} --location=$(hostname)
"""

DAINT_JUPYTER = """\
#!/bin/bash -l
#SBATCH --job-name=ipcluster
#SBATCH --nodes=2
#SBATCH --ntasks-per-node 2
#SBATCH --time=00:20:00
#SBATCH --output jupyter-log-%J.out

profile=job_${SLURM_JOB_ID}
echo "creating profile: ${profile}"
ipython profile create ${profile}

echo "Launching controller"
ipcontroller --ip="*" --profile=${profile} &
sleep 10

echo "Launching engines"
srun ipengine --profile=${profile} --location=$(hostname) 2> /dev/null 1>&2 &

ipnport=$(shuf -i8000-9999 -n1)

XDG_RUNTIME_DIR=""
echo "${hostname}:${ipnport}" > jupyter-notebook-port-and-host
jupyter-notebook --no-browser --port=${ipnport} --ip=$(hostname -i)
"""

DAINT_CONNECT = """\
#!/usr/bin/bash -l

remote=daint

profile_dir=$1
if [[ ! -f ${profile_dir}/security/ipcontroller-client.json || ! -f ${profile_dir}/security/ipcontroller-engine.json ]]; then
    echo "Error: directory ${profile_dir}/security must contain the following files:" >&2
    echo "  ipcontroller-client.json" >&2
    echo "  ipcontroller-engine.json" >&2
    exit 1
fi

ipc_file=${profile_dir}/security/ipcontroller-client.json
ipe_file=${profile_dir}/security/ipcontroller-engine.json

port_labels=(registration control mux task iopub notification)

ipc_host=$(grep location $ipc_file | sed -n 's/.*\\"location\\": \\"\\(.*\\)\\".*/\\1/ p' )

echo "Setting up ssh forwarding to ${ipc_host} via ${remote}"
for label in ${port_labels[@]};
do
    port=$(grep ${label} ${ipc_file} | sed -n "s/.*\\"${label}\\": \\([0-9]*\\).*/\\1/ p")
    echo "bind ${label} to localhost:${port}"
    ssh -L ${port}:${ipc_host}:${port} ${remote} -N -f  1> /dev/null 2>&1
done

echo "ipcontroller host: ${ipc_host}"

echo "Ports forwarded over ssh. Now overwrite ${ipc_host} by localhost in: "
echo " ${ipc_file}"
echo " ${ipe_file}"
sed -i 's/\\"location\\":.*/\\"location\\": \\"localhost\\",/' ${ipc_file}
sed -i 's/\\"location\\":.*/\\"location\\": \\"localhost\\",/' ${ipe_file}

jobid=$(echo $1 | sed -n 's/.*profile_job_\\([0-9]*\\).*/\\1/ p')

echo "Connect to ipcluster:"
echo "import ipyparallel as ipp"
echo "c = ipp.Client(profile=job_${jobid})"
echo "view = c[:]"
"""

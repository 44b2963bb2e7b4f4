from covey._programs import ipcluster

ipcluster()

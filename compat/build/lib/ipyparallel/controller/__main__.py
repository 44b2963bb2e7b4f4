from covey._programs import ipcontroller

ipcontroller()

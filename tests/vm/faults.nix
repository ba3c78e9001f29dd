# What breaks in the night: each service killed, a homeserver cut off, a machine that loses its power. Nothing that was said
# may be lost, nor said twice. (Synapse's workers are killed in `scale`.)
{
  imports = [ ./common/network.nix ];
  globalTimeout = 1800;
  nodes.gateway.services.care-federation.ca.est.enable = true;
  nodes.vvt-host.services.care-federation.network.homeservers.database = "postgresql";
}

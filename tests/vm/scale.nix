# One of the homeservers on PostgreSQL, Redis and several processes, with its bridge on PostgreSQL too, in a federation
# with two small ones.
{
  imports = [ ./common/network.nix ];
  globalTimeout = 1800;
  nodes.vvt-host = {
    services.care-federation.network.homeservers = {
      database = "postgresql";
      workers = 2;
    };
    services.care-federation.homeserver.backup.enable = true;
    services.care-federation.bridge.database = "postgresql";
    virtualisation.memorySize = 3072;
  };
}

# One of the homeservers on PostgreSQL, Redis and several processes, in a federation with two small ones.
{
  imports = [ ./common/network.nix ];
  globalTimeout = 1800;
  nodes.vvt-host = {
    services.care-federation.network.homeservers = {
      database = "postgresql";
      workers = 2;
    };
    services.care-federation.homeserver.backup.enable = true;
    virtualisation.memorySize = 3072;
  };
}

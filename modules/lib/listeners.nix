# Where the services of these modules listen on this host, so that no two of them wait on one address. The first to come
# would get it, and the other would fail to start, or, where the first is the proxy, be answered by it.
{ config, lib, ... }:
let
  inherit (import ./addresses.nix { inherit lib; }) clash;
  prefix = "services.care-federation";

  all = lib.concatLists (
    lib.mapAttrsToList (
      option:
      map (address: {
        inherit option address;
      })
    ) config.services.care-federation.listeners
  );
  taken = lib.concatLists (
    lib.imap1 (
      place: one:
      map (
        other: "${one.address} (${prefix}.${one.option}) and ${other.address} (${prefix}.${other.option})"
      ) (lib.filter (other: clash one.address other.address) (lib.drop place all))
    ) all
  );
in
{
  options.services.care-federation.listeners = lib.mkOption {
    internal = true;
    type = lib.types.attrsOf (lib.types.listOf lib.types.str);
    default = { };
    description = "Addresses by the options that name them.";
  };

  config.assertions = map (both: {
    assertion = false;
    message = ''
      ${prefix}: two listeners wait on the same address, ${both}.
      Give one of them another port.
    '';
  }) taken;
}

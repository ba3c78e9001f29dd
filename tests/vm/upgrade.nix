# A host that ran the previous release gets this one: what that release left behind (tests/vm/upgrade/, made by the script
# `make` there) is in place before anything starts.
{ lib, pkgs, ... }:
let
  left = ./upgrade + "/0.1.0";
  names = [
    "apotheek"
    "huisarts"
    "vvt"
  ];
  first = [
    "federation-ca.service"
    "fhir-bridge-registration.service"
  ];
in
{
  nodes.host = {
    services.care-federation = {
      ca = {
        enable = true;
        inherit names;
        certificates = lib.genAttrs names (name: {
          extraNames = [ "${name}.localhost" ];
        });
      };
      homeserver = {
        enable = true;
        name = "vvt";
        database = "sqlite";
        trial = true;
      };
      bridge.enable = true;
    };

    environment.etc.previous-release.source = left;
    systemd.services.previous-release = {
      description = "The state that the previous release left";
      requiredBy = first;
      before = first;
      path = [ pkgs.sqlite ];
      script = ''
        mkdir -p /var/lib/federation-ca /var/lib/fhir-bridge
        cp -r --no-preserve=mode,ownership ${left}/ca/. /var/lib/federation-ca/
        cp --no-preserve=mode,ownership ${left}/registration.yaml /var/lib/fhir-bridge/
        for name in bridge fhir; do
          sqlite3 /var/lib/fhir-bridge/$name.sqlite < ${left}/$name.sql
        done
        chmod -R go= /var/lib/federation-ca /var/lib/fhir-bridge
        chmod 0711 /var/lib/federation-ca
        chmod 0644 /var/lib/federation-ca/{ca,crl}.pem
        chown -R federation-ca:federation-ca /var/lib/federation-ca
        chown -R fhir-bridge:fhir-bridge /var/lib/fhir-bridge
      '';
      unitConfig.ConditionPathExists = "!/var/lib/fhir-bridge/registration.yaml";
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
    };
    virtualisation.memorySize = 1536;
  };
}

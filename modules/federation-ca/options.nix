# What can be said of the CA, its enrolment server and its clients.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.ca;
  programs = import ../lib/programs.nix pkgs;
  secrets = import ../lib/secrets.nix { inherit lib; };
  inherit (lib) mkOption types literalExpression;

  certificate = types.submodule {
    options = {
      extraNames = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "matrix.vvt.example" ];
        description = "Further names that the certificate is for.";
      };
      group = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "federation-proxy";
        description = ''
          The group that may read the key; null for nobody but the CA itself. The files belong to the user
          `federation-ca`: a service that insists on a key of its own takes a copy with `LoadCredential=`.
        '';
      };
      tokenFile = secrets.mkSecretOption {
        example = "/etc/secrets/enrolment-token";
        description = ''
          With {option}`services.care-federation.ca.client`: a file with the one-time token for the first certificate,
          made by {command}`federation-ca token NAME` on the CA's host. It may be removed when the certificate is there.
        '';
      };
      reloadUnits = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "nginx.service" ];
        description = ''
          Units that are reloaded, or restarted where they cannot reload, when the certificate was renewed. The
          federation proxy notices by itself.
        '';
      };
    };
  };
in
{
  options.services.care-federation.ca = {
    enable = lib.mkEnableOption "the network's certificate authority";

    package = lib.mkPackageOption programs "federation-ca" { };

    directory = mkOption {
      type = types.path;
      default = "/var/lib/federation-ca";
      readOnly = true;
      description = ''
        Where the CA lives: {file}`ca.pem` for everybody, {file}`ca.key` for itself, and a directory with
        {file}`cert.pem` and {file}`key.pem` for each name under {file}`certs`. Keep a copy of it in a safe place.
      '';
    };

    certificate = mkOption {
      type = types.path;
      default = "${cfg.directory}/ca.pem";
      readOnly = true;
      description = "The CA's certificate: the root for everyone in the network.";
    };

    names = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "apotheek"
        "huisarts"
        "vvt"
      ];
      description = ''
        The names, and what is below them, for which the CA may issue certificates. Verifiers refuse all others, so a CA
        whose key is stolen is no danger outside the network.
      '';
    };

    certificates = mkOption {
      type = types.attrsOf certificate;
      default = { };
      example = literalExpression ''{ vvt.group = "federation-proxy"; }'';
      description = ''
        Certificates for services on this host, by name. They are made on the first start, and renewed at two thirds of
        their life.
      '';
    };

    renewal = mkOption {
      type = types.str;
      default = "hourly";
      example = "daily";
      description = "How often to look for certificates that are due, as in {manpage}`systemd.time(7)`.";
    };

    est = {
      enable = lib.mkEnableOption "enrolment over the network (EST, RFC 7030), so that other hosts get certificates";

      name = mkOption {
        type = types.str;
        default = "ca";
        example = "ca.zorgnetwerk.example";
        description = "The name by which the other hosts call this server; the CA certifies it too.";
      };

      listen = mkOption {
        type = types.nonEmptyListOf types.str;
        default = [ "[::]:8449" ];
        example = [ "10.0.0.2:8449" ];
        description = "Where to listen. `[::]` takes IPv4 too.";
      };

      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = "Whether to open the ports of {option}`listen` in the firewall.";
      };
    };

    client = {
      enable = lib.mkEnableOption "certificates from a CA on another host (EST, RFC 7030). The keys are made here and never leave this host";

      server = mkOption {
        type = types.nullOr (types.strMatching "https://.+");
        default = null;
        example = "https://ca.zorgnetwerk.example:8449";
        description = "The enrolment server.";
      };

      fingerprint = mkOption {
        type = types.nullOr (types.strMatching "[0-9A-Fa-f:]{64,95}");
        default = null;
        example = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
        description = ''
          The SHA-256 fingerprint of the CA's certificate, for the first contact; {command}`federation-ca show` on the
          CA's host prints it.
        '';
      };

      caFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = literalExpression "./ca.pem";
        description = "The CA's certificate (PEM), instead of its {option}`fingerprint`. It is public.";
      };
    };
  };
}

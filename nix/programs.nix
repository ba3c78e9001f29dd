# The programs as packages: each on its own, so that the closure of one holds nothing of the others.
pkgs:
let

  care-federation = pkgs.callPackage ./package.nix { };
  program =
    name: description:
    pkgs.callPackage ./program.nix {
      inherit care-federation name description;
    };
  lab = program "federation-lab" "Brings a care federation up on one machine and proves it";
in
{
  inherit care-federation;
  federation-ca = program "federation-ca" "Certificate authority of a care federation";
  federation-proxy = program "federation-proxy" "TLS-terminating proxy, egress and policy of a care federation";
  fhir-bridge = program "fhir-bridge" "Matrix application service between FHIR R4 and Matrix";
  federation-lab-unwrapped = lab;

  # With nixpkgs' Synapse and Element: the lab downloads nothing.
  federation-lab = pkgs.symlinkJoin {
    name = "federation-lab-with-synapse-${lab.version}";
    paths = [ lab ];
    nativeBuildInputs = [ pkgs.makeWrapper ];
    postBuild = ''
      wrapProgram $out/bin/federation-lab \
        --set-default SYNAPSE_HOMESERVER ${pkgs.matrix-synapse}/bin/synapse_homeserver \
        --set-default ELEMENT_WEB ${pkgs.element-web}
    '';
    meta = {
      inherit (lab.meta) license platforms mainProgram;
      description = "${lab.meta.description}, with Synapse and Element Web";
    };
  };
}

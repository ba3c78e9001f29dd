# `checks`: the packages with their tests, the evaluation tests, and every VM test under tests/vm.
{ pkgs, self }:
let
  inherit (pkgs) lib;
  programs = import ./programs.nix pkgs;

  isTest = file: type: type == "regular" && lib.hasSuffix ".nix" file;
  names = map (lib.removeSuffix ".nix") (
    lib.attrNames (lib.filterAttrs isTest (builtins.readDir ../tests/vm))
  );

  # tests/vm/NAME.nix with its script tests/vm/NAME.py, in the setting that all tests share.
  vmTest =
    name:
    pkgs.testers.runNixOSTest {
      imports = [
        ../tests/vm/common
        (../tests/vm + "/${name}.nix")
      ];
      inherit name;
      testScript = lib.mkDefault (
        builtins.readFile ../tests/vm/common/prelude.py + builtins.readFile (../tests/vm + "/${name}.py")
      );
      _module.args = { inherit programs; };
    };
in
lib.genAttrs names vmTest
// {
  package = programs.care-federation;
  programs = pkgs.linkFarm "care-federation-programs" {
    inherit (programs)
      federation-ca
      federation-proxy
      federation-lab-unwrapped
      fhir-bridge
      ;
  };
  evaluation = import ../tests/nix/evaluation.nix { inherit pkgs self; };
}

# Evaluation tests: sound settings give no complaint, faulty ones give the intended sentence, the templates and the
# demonstration evaluate to a system. Nothing is built; a failure is an evaluation error that lists what is wrong.
{ pkgs, self }:
let
  inherit (pkgs) lib;
  evaluate = evaluateWith self.nixosModules.default;
  evaluateWith =
    module: settings:
    (import (pkgs.path + "/nixos/lib/eval-config.nix") {
      inherit lib;
      system = null;
      modules = [
        module
        settings
        {
          nixpkgs.pkgs = pkgs;
          # For the containers, which make a package set of their own.
          nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
          # No boot loader and no disks to declare.
          boot.isContainer = true;
          system.stateVersion = "26.05";
        }
      ];
    }).config;
  complaints =
    config:
    map (a: builtins.unsafeDiscardStringContext a.message) (
      lib.filter (a: !a.assertion) config.assertions
    );
  oneLine =
    text:
    lib.concatStringsSep " " (
      lib.filter (word: word != "") (lib.splitString " " (lib.replaceStrings [ "\n" ] [ " " ] text))
    );

  sound = import ./sound.nix { inherit pkgs; };
  faulty = import ./faulty.nix { inherit pkgs; };
  facts = import ./facts.nix { inherit pkgs evaluate; };

  # What is wrong with a case, as sentences; none where it is as it should be.
  judgeConfig =
    what: config:
    map (message: "${what} is refused: ${oneLine message}") (complaints config)
    ++ map (message: "${what} gives a warning: ${oneLine message}") (
      lib.filter (lib.hasInfix "care-federation") config.warnings
    );
  judgeSound = name: settings: judgeConfig "sound.${name}" (evaluate settings);
  # Each module can be imported by itself.
  judgeAlone = name: module: judgeConfig "nixosModules.${name}" (evaluateWith module { });
  judgeFaulty =
    name:
    { settings, says }:
    let
      config = evaluate settings;
      found = map oneLine (complaints config ++ config.warnings);
    in
    lib.optional (!lib.any (lib.hasInfix (builtins.unsafeDiscardStringContext says)) found)
      "faulty.${name} does not say ‘${says}’ but: ${
        lib.concatStringsSep " / " (found ++ [ "nothing else" ])
      }";

  wrong = lib.concatLists (
    lib.mapAttrsToList judgeAlone self.nixosModules
    ++ lib.mapAttrsToList judgeSound sound
    ++ lib.mapAttrsToList judgeFaulty faulty
    ++ lib.mapAttrsToList (fact: holds: lib.optional (!holds) "it is not so: ${fact}") facts
  );

  # Systems that must evaluate to the end.
  inputs = {
    inherit (self.inputs) nixpkgs;
    care-federation = self;
  };
  templates = lib.mapAttrs (
    _: template: ((import (template.path + "/flake.nix")).outputs inputs).nixosConfigurations
  ) self.templates;
  systems =
    lib.concatMap (
      configurations: map (machine: machine.config.system.build.toplevel) (lib.attrValues configurations)
    ) (lib.attrValues templates)
    ++ [ self.nixosConfigurations.demo.config.system.build.vm ];
  counted = lines: lib.concatLines (lines ++ [ "${toString (lib.length lines)} passed, 0 failed" ]);
  evaluated = map (system: builtins.unsafeDiscardStringContext system.drvPath) systems;
in
if wrong != [ ] then
  throw "evaluation tests failed:\n${lib.concatMapStringsSep "\n" (sentence: "- ${sentence}") wrong}"
else
  pkgs.writeText "evaluation" (
    counted (
      map (name: "sound ${name}") (lib.attrNames sound)
      ++ map (name: "faulty ${name}") (lib.attrNames faulty)
      ++ map (name: "alone ${name}") (lib.attrNames self.nixosModules)
      ++ lib.attrNames facts
      ++ evaluated
    )
  )

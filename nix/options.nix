# The reference of the modules' options, as Markdown made of their declarations. docs/src/nix-options.md is a copy of it;
# tests/nix/check holds the two together.
{ lib, pkgs }:
let
  evaluated = import (pkgs.path + "/nixos/lib/eval-config.nix") {
    inherit lib;
    system = null;
    modules = [
      (import ../modules).default
      {
        nixpkgs.pkgs = pkgs;
        system.stateVersion = "26.05";
      }
    ];
  };
  ours = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList evaluated.options.services.care-federation
  );

  prose = text: lib.trim (if lib.isAttrs text then text.text else text);
  # NixOS' markup for names becomes plain Markdown.
  plain =
    text:
    lib.replaceStrings [ "{option}" "{file}" "{command}" "{manpage}" ] [ "" "" "" "" ] (prose text);
  value =
    given:
    if given._type or null == "literalMD" then
      " ${plain given}"
    else if lib.hasInfix "\n" (prose given) then
      "\n\n```nix\n${prose given}\n```"
    else
      " `${prose given}`";
  entry =
    option:
    lib.concatStringsSep "\n" (
      [
        "## `${option.name}`"
        ""
        (plain option.description)
        ""
        "*Type:* ${option.type}"
      ]
      ++ lib.optional (option ? default) "\n*Default:*${value option.default}"
      ++ lib.optional (option ? example) "\n*Example:*${value option.example}"
      ++ [ "" ]
    );
in
''
  # Options of the NixOS modules

  Made by `nix build .#options-doc` from the declarations in `modules/`; do not edit.

''
+ lib.concatMapStringsSep "\n" entry (lib.sort (a: b: a.name < b.name) ours)

# Our programs for a package set: those of the overlay where the host has it, else built with the host's own nixpkgs.
pkgs:
let
  own = import ../../nix/programs.nix pkgs;
in
own // builtins.intersectAttrs own pkgs

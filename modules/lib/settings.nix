# The settings file of a program of ours: TOML, checked by the program itself when the system is built.
{ lib, pkgs }:
{
  package,
  settings,
  # The commands that check a file.
  check,
}:
let
  name = lib.getName package;
  withoutNulls = lib.filterAttrsRecursive (_: value: value != null);
  unchecked = (pkgs.formats.toml { }).generate "${name}-unchecked.toml" (withoutNulls settings);
  checked = pkgs.runCommandLocal "${name}.toml" { nativeBuildInputs = [ package ]; } ''
    ${check unchecked}
    cp ${unchecked} $out
  '';
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
in
if canRun then checked else unchecked

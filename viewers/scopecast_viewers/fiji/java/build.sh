#!/bin/sh
# Compiles the classes beside their sources, with the compiler that the tests check them with; needs nothing but a Java.
#   java/build.sh ecj-3.42.0.jar ij-1.54p.jar scijava-common-2.100.1.jar     (all from Maven Central)
cd "$(dirname "$0")" || exit
exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" -jar "$1" -source 11 -target 11 -g:none -warn:none -cp "$2:$3" -d . scopecast/*.java
